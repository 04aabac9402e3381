"""A process of a peer, for the benchmark `peers`: `peer.py MODULE VERB DSN …`, MODULE being one of the `peer_….py`.

`install DSN` makes its tables. `load DSN COUNT` gives it a job for the body of each of the newest events. `work DSN
URL` prints "ready", waits until it is sent a line, and posts the jobs' bodies to the URL until SIGTERM; when the first
begins, it prints the time. All under uvloop, connected as application_name `peer`.
"""

import gc
import sys
from importlib import import_module

import psycopg
import uvloop
from poster import posting


async def load(name: str, dsn: str, count: str) -> None:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("select body from pgrelay.outbox order by id desc limit %s", (count,))
        bodies = [body.encode() for (body,) in found]
    await import_module(name).load(dsn, bodies)


async def work(name: str, dsn: str, url: str) -> None:
    def wait_for_leave() -> None:
        gc.freeze()
        print("ready", flush=True)
        sys.stdin.readline()

    async with posting(url) as post:
        await import_module(name).work(dsn, post, wait_for_leave)


async def install(name: str, dsn: str) -> None:
    await import_module(name).install(dsn)


if __name__ == "__main__":
    module, verb, *words = sys.argv[1:]
    match verb:
        case "install":
            uvloop.run(install(module, *words))
        case "load":
            uvloop.run(load(module, *words))
        case "work":
            uvloop.run(work(module, *words))
