"""The command `pgrelay` with a configuration of its own: called within this process, or started as one."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pgrelay
from pgrelay.cli.main import main

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
    """`pgrelay` in a directory of its own, for one database; call it with the words after `pgrelay`.

    A call runs within this process, which is ten times quicker than starting Python; nobody is at its terminal.
    """

    def __init__(self, directory: Path, dsn: str) -> None:
        self.config = directory / "pgrelay.yaml"
        self.config.write_text(EXAMPLE)
        self.directory = directory
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(_SRC), os.environ.get("PYTHONPATH", "")]),
            "PGRELAY_DATABASE_DSN": dsn,
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE")},
        }

    def __call__(self, *words: str, **environ: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with self._in_place(environ), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(words)
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Done(code, out.getvalue(), err.getvalue())

    @contextlib.contextmanager
    def _in_place(self, environ: dict[str, str]) -> Iterator[None]:
        with (
            contextlib.chdir(self.directory),
            mock.patch.dict(os.environ, {**self.environ, **environ}, clear=True),
            mock.patch.object(sys, "stdin", io.StringIO()),
        ):
            yield

    def start(self, *words: str) -> subprocess.Popen[str]:
        """As a process, to be ended by the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "pgrelay", *words],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def process(self, *words: str) -> Done:
        """As a process, to its end."""
        with self.start(*words) as running:
            out, err = running.communicate(timeout=60)
        return Done(running.returncode, out, err)

    def configure(self, *replacements: tuple[str, str]) -> None:
        """Change words of the configuration file; each must be there."""
        text = self.config.read_text()
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        self.config.write_text(text)
