"""The brake on those who guess tokens, and what counts as loopback."""

from pgrelay.api.auth import Brake


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ten_failures_in_a_minute_are_one_too_many_and_a_minute_later_forgotten():
    clock = Clock()
    brake = Brake(clock)
    for _ in range(10):
        assert brake.wait("a", b"x") == 0
        brake.failed("a")
    assert brake.wait("a", b"x") == 60
    assert brake.wait("b", b"x") == 0
    clock.now = 59.0
    assert brake.wait("a", b"x") == 1
    clock.now = 60.0
    assert brake.wait("a", b"x") == 0
    brake.failed("a")
    assert brake.wait("a", b"x") == 0


def test_a_token_that_was_good_lately_is_let_through():
    clock = Clock()
    brake = Brake(clock)
    brake.succeeded(b"good")
    for _ in range(10):
        brake.failed("a")
    assert (brake.wait("a", b"good"), brake.wait("a", b"bad")) == (0, 60)
    clock.now = 301.0
    for _ in range(10):
        brake.failed("a")
    assert brake.wait("a", b"good") > 0


def test_what_is_remembered_of_strangers_is_bounded():
    brake = Brake(Clock())
    for number in range(10_050):
        brake.failed(str(number))
        brake.succeeded(str(number).encode())
    assert len(brake._failures) == len(brake._good) == 10_000
