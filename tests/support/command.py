"""The real command, `pgrelay`, run as a process with a configuration of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pgrelay

_SRC = Path(pgrelay.__file__).parents[1]
#: The sources of the shipped example: the sample application's tables.
EXAMPLE = (_SRC.parent / "config.example.yaml").read_text("utf-8")


class Done(NamedTuple):
    """How a command ended, and what it said where."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output, read as JSON."""
        return json.loads(self.out)


class Command:
    """`pgrelay` in a directory of its own, for one database; call it with the words after `pgrelay`."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.config = directory / "pgrelay.yaml"
        self.config.write_text(EXAMPLE)
        self.directory = directory
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(_SRC), os.environ.get("PYTHONPATH", "")]),
            "PGRELAY_DATABASE_DSN": dsn,
            "PYTHONIOENCODING": "utf-8",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE")},
        }

    def __call__(self, *words: str, stdin: str = "", **environ: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "pgrelay", *words],
            check=False,
            cwd=self.directory,
            env={**self.environ, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The same, to be ended by the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "pgrelay", *words],
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def configure(self, *replacements: tuple[str, str]) -> None:
        """Change words of the configuration file; each must be there."""
        text = self.config.read_text()
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        self.config.write_text(text)
