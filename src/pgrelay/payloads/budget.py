"""How much one rendering may do, counted beforehand: so it ends in time, whatever its template and its event are.

A step is a part of an expression evaluated, or an item of a list passed. A character is one read or written by whatever
takes time in proportion to them. Both were measured: a rendering that uses all it may holds the event loop for 20 ms.
"""

from pgrelay.payloads.event import Unrenderable

STEPS = 10_000
CHARACTERS = 1_000_000
#: Bytes of what is sent.
LONGEST = 262_144


class Budget:
    """What is left of it. Raises Unrenderable when nothing is."""

    __slots__ = ("_characters", "_steps")

    def __init__(self) -> None:
        self._steps = STEPS
        self._characters = CHARACTERS

    def step(self, count: int = 1) -> None:
        self._steps -= count
        if self._steps < 0:
            raise Unrenderable(f"payload_template does more than {STEPS:,} steps for this event")

    def characters(self, count: int) -> None:
        self._characters -= count
        if self._characters < 0:
            raise Unrenderable(
                f"payload_template reads and writes more than {CHARACTERS:,} characters for this event"
            )
