"""The alerts and the dashboard under contrib/ speak of metrics that a daemon has, in forms their programs take."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgrelay.observation import AttemptFailed, Delivered, DeliveryFailed, HttpServing
from pgrelay.upkeep import ReadFigures
from support.daemon import PATIENCE, daemon
from support.database import Database
from support.factories import emit
from support.metrics import Scrape, scrape
from support.queue import add_webhook
from support.receiver import Receiver, hang, in_turn, ok, status

ROOT = Path(__file__).parents[2]
RULES = ROOT / "contrib/prometheus/pgrelay.rules.yaml"
DASHBOARD = ROOT / "contrib/grafana/pgrelay.json"
PROMTOOL = shutil.which("promtool")
_NAME = re.compile(r"\b(?:pgrelay|process)_\w+")

#: By the first test that asked.
_scraped: list[Scrape] = []

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


@pytest.fixture
async def lived(
    database: Database, db: psycopg.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Scrape:
    """What a daemon says that delivered, tried again and gave up, and has read its figures. It lives once for all tests."""
    if _scraped:
        return _scraped[0]
    monkeypatch.setattr(ReadFigures, "every", 0.05)
    monkeypatch.setattr(ReadFigures, "share", 1.0)
    add_webhook(db, url=receiver.url("/good"))
    add_webhook(db, url=receiver.url("/poor"), max_retry_attempts=2)
    receiver.on("/good", in_turn(status(503), ok()))
    receiver.on("/poor", status(500))
    add_webhook(db, events=["order.slow"], url=receiver.url("/slow"))
    receiver.on("/slow", hang())
    keys = {"http.listen": "127.0.0.1:0", "delivery.max_concurrency": 2, "daemon.drain_timeout": 0.1}
    async with daemon(database.dsn, keys) as one:
        emit(db)
        await one.seen(Delivered)
        await one.seen(DeliveryFailed)
        await one.seen(AttemptFailed, 2)
        emit(db, 9, event_type="order.slow")  # not before: these open the circuit of /poor
        await receiver.wait_for(2, path="/slow")
        db.execute("update pgrelay.delivery_queue set next_attempt_at = now() - interval '1 minute'"
                   " where status = 'pending'")  # fmt: skip
        (serving,) = one.of(HttpServing)
        async with asyncio.timeout(PATIENCE):
            while not (seen := await scrape(serving.url)).values("pgrelay_webhook_overdue_seconds"):
                await asyncio.sleep(0.02)
    _scraped.append(seen)
    return seen


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return group["rules"]


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text("utf-8"))["panels"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


async def test_every_metric_that_alerts_and_dashboard_ask_for_is_there(lived: Scrape):
    asked = set(_NAME.findall("\n".join([*(rule["expr"] for rule in rules()), *expressions()])))
    assert asked - lived.names == set()
    assert len(asked) > 30


async def test_every_label_that_they_ask_for_is_there(lived: Scrape):
    selected = re.findall(r"(\w+)!?=~?\"", "\n".join([*(rule["expr"] for rule in rules()), *expressions()]))
    grouped = re.findall(
        r"\b(?:by|on) \(([^)]*)\)", "\n".join([*(r["expr"] for r in rules()), *expressions()])
    )
    asked = {*selected, *(label.strip() for labels in grouped for label in labels.split(","))}
    assert asked - set(lived.labels()) == {"job", "instance"}  # Prometheus adds these two itself


async def test_every_metric_is_on_the_dashboard(lived: Scrape):
    shown = set(re.findall(r"pgrelay_\w+", DASHBOARD.read_text("utf-8")))
    families = {family.name for family in lived.families if family.name.startswith("pgrelay_")}
    assert {name for name in families if not any(word.startswith(name) for word in shown)} == set()


def test_every_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do():
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_the_dashboard_has_panels_that_do_not_overlap_and_ask_the_chosen_source():
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"] and panel["targets"], panel["title"]


def promtool(*arguments: str, text: str = "") -> str:
    """What promtool says; it must be content."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], check=False, input=text, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
async def test_promtool_has_nothing_to_say_against_the_metrics(lived: Scrape):
    assert promtool("check", "metrics", text=lived.text) == ""


@needs_promtool
def test_promtool_takes_the_rules_and_they_fire_when_they_should():
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(Path(__file__).with_name("alerts.yaml")))


@needs_promtool
@pytest.mark.parametrize("expression", expressions())
def test_promtool_reads_every_query_of_the_dashboard(expression: str, tmp_path: Path):
    query = expression.replace("$__rate_interval", "5m")
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "a", "rules": [{"record": "a:b", "expr": query}]}]}))
    promtool("check", "rules", str(file))
