"""A loop that only posts, the yardstick for the daemon: `bare.py CLIENT LOOP URL CONCURRENCY DSN COUNT [CA]`.

CLIENT is `raw` (an aiohttp session) or `transport` (pgrelay's own). Posts the bodies of the newest events in the
database, read beforehand, each signed as it goes and with the headers that the daemon would send. Prints
{"rate": …, "processor": …}: requests per second, and seconds of processor time per request, from the first
request to the last answer.
"""

import asyncio
import gc
import json
import ssl
import sys
import time

import psycopg
from poster import Send, request_builder, session

from pgrelay.addresses import Policy
from pgrelay.config.settings import DeliverySettings
from pgrelay.delivery import Claim, Request, Response
from pgrelay.transport import Transport


async def post_all(claims: list[Claim], url: str, concurrency: int, send: Send) -> dict[str, float]:
    """Post each once, `concurrency` at a time; how fast, and at what cost."""
    builder = request_builder(url)
    waiting = iter(claims)

    async def work() -> None:
        for claim in waiting:
            status = await send(builder.build(claim, int(time.time())))
            if status != 200:
                raise RuntimeError(f"the receiver answered {status}")

    began, used = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return {
        "rate": len(claims) / (time.monotonic() - began),
        "processor": (time.process_time() - used) / len(claims),
    }


async def by_session(
    claims: list[Claim], url: str, concurrency: int, tls: ssl.SSLContext
) -> dict[str, float]:
    """With an aiohttp session."""
    async with session(tls) as send:
        return await post_all(claims, url, concurrency, send)


async def by_transport(
    claims: list[Claim], url: str, concurrency: int, tls: ssl.SSLContext
) -> dict[str, float]:
    """With the daemon's transport."""
    policy = Policy.of(("127.0.0.0/8",), allow_http=True)
    transport = Transport(policy, DeliverySettings().max_response_bytes, tls=tls)
    await transport.start()

    async def send(request: Request) -> int:
        answer = await transport.send(request)
        return answer.status if isinstance(answer, Response) else 0

    try:
        return await post_all(claims, url, concurrency, send)
    finally:
        await transport.close()


def main() -> None:
    client, loop, url, concurrency, dsn, count, *trusted = sys.argv[1:]
    tls = ssl.create_default_context()
    for certificate in trusted:
        tls.load_verify_locations(certificate)
    with psycopg.connect(dsn) as connection:
        claims = [
            Claim(1, 1, 1, 1, event_id, 1, event_type, key, body.encode(), 0.0)
            for event_id, event_type, key, body in connection.execute(
                "select id, event_type, idempotency_key, body from pgrelay.outbox order by id desc limit %s",
                (count,),
            )
        ]
    gc.freeze()
    work = (by_session if client == "raw" else by_transport)(claims, url, int(concurrency), tls)
    if loop == "uvloop":
        import uvloop

        found = uvloop.run(work)
    else:
        found = asyncio.run(work)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
