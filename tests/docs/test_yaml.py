"""Every configuration in the documentation is one that pgrelay takes, and its sources can be watched."""

import json
from pathlib import Path

import psycopg
import pytest

from docs.blocks import ROOT, Block, blocks_of
from pgrelay.config import Settings, load

EXAMPLES = blocks_of("yaml")
#: What the README watches belongs to a table that its tour makes; see test_tour.py.
ELSEWHERE = ROOT / "README.md"


def read(example: Block, directory: Path) -> Settings:
    path = directory / "pgrelay.yaml"
    path.write_text(example.text, "utf-8")
    return load(path, environ={}, credentials=None)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: block.place)
def test_a_configuration_is_read_without_a_finding(example: Block, tmp_path: Path):
    assert read(example, tmp_path) != Settings()


@pytest.mark.parametrize(
    "example",
    [block for block in EXAMPLES if block.path != ELSEWHERE and "sources:" in block.text],
    ids=lambda block: block.place,
)
def test_its_sources_can_be_watched(example: Block, tmp_path: Path, world: psycopg.Connection):
    settings = read(example, tmp_path)
    for source in settings.sources:
        world.execute("select pgrelay.watch(%s, 'main')", [json.dumps(source.definition())])
    cursor = world.execute(
        "select count(*) from pgrelay.event_rules r join pgrelay.sources s on s.id = r.source_id where s.name = any (%s)",
        [[source.name for source in settings.sources]],
    )
    assert cursor.fetchone() == (sum(len(source.events) for source in settings.sources),)
