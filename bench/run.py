"""`make bench`: measure, and print each figure beside its target.

bench/run.py [NAME …] [--quick] [--json FILE] [--pg VERSION]. Needs Linux, for processor times come from /proc. What
each benchmark does stands at the head of its file, results in docs/benchmarks.md.
"""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import capture
import claims
import drain
import isolation
import latency
import memory
import notify
import peers
import pinned
import serializable
import tls
from processor import load
from results import Skipped, table
from world import SERVER, world

BENCHMARKS = {
    module.NAME: module
    for module in (
        capture,
        serializable,
        notify,
        drain,
        tls,
        peers,
        latency,
        pinned,
        claims,
        isolation,
        memory,
    )
}


def main() -> int:
    """1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure pgrelay on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument(
        "--quick", action="store_true", help="less of everything: to try it out, not to quote"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to a file as well")
    parser.add_argument(
        "--pg", metavar="VERSION", help="major version of the server, such as 16 (the first one found)"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if not Path("/proc/self/schedstat").exists():
        parser.error("this needs Linux with /proc/PID/schedstat")

    figures = []
    with world(arguments.pg, quick=arguments.quick) as here:
        conditions = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release()}",
            "versions": f"PostgreSQL {here.cluster.binaries.version}, Python {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in ("psycopg", "aiohttp", "uvloop")),
            "server": ", ".join(f"{name}={value}" for name, value in SERVER.items())
            + ", all else as shipped",
        }
        for name, value in conditions.items():
            print(f"{name}: {value}")
        for name in arguments.names or BENCHMARKS:
            print(f"{name} (load {load()}) …", file=sys.stderr, flush=True)
            try:
                figures += BENCHMARKS[name].run(here)
            except Skipped as skipped:
                print(f"{name}: skipped, {skipped}", file=sys.stderr)
    print()
    print(table(figures))
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({**conditions, "figures": [figure.as_json() for figure in figures]}, indent=1) + "\n"
        )
    return int(any(figure.met is False for figure in figures))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
