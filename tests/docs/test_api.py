"""The commands of docs/api.md, one after another, against the API over the installation of world.py."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator

import pytest

from docs.blocks import ROOT, blocks
from docs.world import furnish
from support.api import make_token, nothing_sent, serving_api
from support.database import Database

_BASE = "http://127.0.0.1:8060"


def commands() -> Iterator[str]:
    for block in blocks(ROOT / "docs/api.md"):
        if block.language == "console":
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("$ curl "):
                    yield line.removeprefix("$ ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_commands_of_the_page_do_what_it_says(app: Database):
    with app.connect() as db:
        furnish(db)
        token = make_token(db, "admin")
    answers = {}
    async with serving_api(app.dsn, send=nothing_sent) as api:
        for command in commands():
            running = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                f"{command.replace(_BASE, api.url)} --silent --show-error --fail-with-body --globoff",
                env={"PATH": os.environ["PATH"], "TOKEN": token},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await running.communicate()
            assert running.returncode == 0, f"{command}\n{said.decode()}"
            answers[command] = json.loads(said) if said else None
    assert len(answers) > 20
    empty = [command for command, answer in answers.items() if answer is None or answer.get("items") == []]
    assert [command.split()[2] for command in empty] == ["DELETE"], empty
