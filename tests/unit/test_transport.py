"""What `Transport.send` sends, what it makes of the answer, and what it does with its connections."""

import asyncio
import gzip
import threading
from typing import cast

import pytest

from pgrelay.addresses import Policy
from pgrelay.delivery import ErrorKind, Failure, Response
from pgrelay.transport import Transport, client, pool
from pgrelay.transport.connection import Connection
from pgrelay.transport.failures import Refused
from support.receiver import (
    Exchange,
    Receiver,
    after,
    drip,
    endless_body,
    hang,
    head,
    in_turn,
    ok,
    raw,
    redirect,
    reset,
    slow,
    status,
)
from support.sending import HEADERS, LIMIT, LOOPBACK, meet, names, request, transport

# What goes out


async def test_method_target_headers_and_body_arrive_as_they_were_given():
    target = "/a%2Fb/..//c%7E/%e4?x=%7e&y=+&&z=1;2,[3]"
    body = b'{"name": "\xc3\xa4",  "n": 1.0}'
    async with Receiver() as receiver, transport() as sender:
        await sender.send(request(receiver.url(target), body, **{"X-Own": "a b, c", "x-lower": "1"}))
    [seen] = receiver.seen
    assert (seen.method, seen.target, seen.body) == ("POST", target, body)
    for name, value in {**HEADERS, "X-Own": "a b, c", "x-lower": "1"}.items():
        assert (name, value) in seen.headers
    assert seen.header("Content-Length") == str(len(body))
    assert seen.header("Host") == f"127.0.0.1:{receiver.port}"
    assert seen.header("Cookie") is None


async def test_any_answer_is_taken_in_the_clear_unless_the_request_says_otherwise():
    async with Receiver() as receiver, transport() as sender:
        await sender.send(request(receiver.url()))
        await sender.send(request(receiver.url(), **{"accept": "text/plain", "X-Acceptable": "1"}))
    said = [
        [(name.lower(), value) for name, value in seen.headers if name.lower().startswith("accept")]
        for seen in receiver.seen
    ]
    assert said == [
        [("accept", "*/*"), ("accept-encoding", "identity")],
        [("accept", "text/plain"), ("accept-encoding", "identity")],
    ]


@pytest.mark.parametrize("size", [0, 70_000, 3 * 1024 * 1024])
async def test_a_body_of_any_size_arrives_whole(size):
    body = bytes(range(256)) * (size // 256 + 1)
    async with Receiver() as receiver, transport() as sender:
        result = await sender.send(request(receiver.url(), body[:size]))
    assert isinstance(result, Response)
    assert receiver.seen[0].body == body[:size]
    assert receiver.seen[0].header("Transfer-Encoding") is None


async def test_a_url_without_a_path_asks_for_the_root_and_a_fragment_stays_here():
    async with Receiver() as receiver, transport() as sender:
        await sender.send(request(receiver.url("")))
        await sender.send(request(receiver.url("?a=1#fragment")))
    assert [seen.target for seen in receiver.seen] == ["/", "/?a=1"]


async def test_a_cookie_that_one_answer_sets_is_not_sent_with_the_next_request():
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(status(200, headers={"Set-Cookie": "session=1; Path=/"}))
        await sender.send(request(receiver.url()))
        await sender.send(request(receiver.url()))
    assert receiver.seen[1].header("Cookie") is None


async def test_a_proxy_in_the_environment_is_ignored(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(await meet(ok()), Response)


async def test_a_line_break_in_a_header_is_a_failure_and_nothing_is_sent():
    async with Receiver() as receiver, transport() as sender:
        result = await sender.send(request(receiver.url(), **{"X-Own": "a\r\nX-Injected: t0psecret"}))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.PROTOCOL
    assert "t0psecret" not in result.message
    assert receiver.seen == []


# What comes back


async def test_a_response_carries_status_headers_body_duration_and_address():
    result = await meet(slow(0.05, status(201, b"made", {"X-Request-Id": "7", "Retry-After": "3"})))
    assert isinstance(result, Response)
    assert (result.status, result.body, result.remote_address) == (201, b"made", "127.0.0.1")
    assert result.headers["x-request-id"] == "7"
    assert 0.05 <= result.duration < 5.0


@pytest.mark.parametrize("code", [204, 304, 400, 404, 410, 429, 500, 503, 599, 799])
async def test_a_complete_answer_of_any_status_is_a_response(code):
    result = await meet(status(code, b"" if code in (204, 304) else b"why"))
    assert isinstance(result, Response)
    assert result.status == code


async def test_a_redirect_is_a_response_and_is_not_followed():
    async with Receiver() as receiver, transport() as sender:
        receiver.on("/old", redirect(receiver.url("/new"), 308))
        result = await sender.send(request(receiver.url("/old")))
    assert isinstance(result, Response)
    assert (result.status, result.headers["Location"]) == (308, receiver.url("/new"))
    assert receiver.seen_at("/new") == []


async def test_an_informational_answer_before_the_real_one_is_passed_over():
    result = await meet(
        raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head(200, {"Content-Length": "0"}))
    )
    assert isinstance(result, Response)
    assert result.status == 200


async def test_a_protocol_switch_is_a_response_and_ends_the_connection():
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(raw(head(101, {"Upgrade": "websocket", "Connection": "Upgrade"}) + b"\x81\x00"))
        results = [await sender.send(request(receiver.url())) for _ in range(2)]
    assert [result.status for result in results if isinstance(result, Response)] == [101, 101]
    assert receiver.connections == 2


async def test_a_header_that_is_no_utf_8_becomes_text_that_can_be_stored():
    answer = b"HTTP/1.1 200 OK\r\nX-Odd: caf\xe9 \xc3\xa9\r\nX-Odd: 2\r\nContent-Length: 0\r\n\r\n"
    result = await meet(raw(answer))
    assert isinstance(result, Response)
    assert list(result.headers.items()) == [
        ("X-Odd", "caf\N{REPLACEMENT CHARACTER} é"),
        ("X-Odd", "2"),
        ("Content-Length", "0"),
    ]


# How much of it is read


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_exactly_the_limit_is_read_whole_in_however_many_pieces(chunked):
    async def behave(exchange: Exchange) -> None:
        if chunked:
            await exchange.write(head(200, {"Transfer-Encoding": "chunked"}))
        else:
            await exchange.write(head(200, {"Content-Length": str(LIMIT)}))
        for _ in range(10):
            await asyncio.sleep(0)
            await exchange.write((b"64\r\n" if chunked else b"") + b"y" * 100 + (b"\r\n" if chunked else b""))
        await exchange.write(b"0\r\n\r\n" if chunked else b"")

    result = await meet(behave)
    assert isinstance(result, Response)
    assert result.body == b"y" * LIMIT


async def test_a_longer_body_is_cut_at_the_limit():
    result = await meet(status(500, b"z" * 100 * LIMIT))
    assert isinstance(result, Response)
    assert (result.status, result.body) == (500, b"z" * LIMIT)


async def test_an_endless_body_is_cut_and_its_connection_closed_at_once():
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(endless_body())
        result = await sender.send(request(receiver.url(), timeout=60.0))
        await receiver.wait_until_closed()
    assert isinstance(result, Response)
    assert (result.body, receiver.connections) == (b"x" * LIMIT, 1)
    assert result.duration < 30.0


async def test_with_a_limit_of_zero_the_body_is_left_unread():
    result = await meet(status(200, b"x" * 100_000), limit=0)
    assert isinstance(result, Response)
    assert (result.status, result.body) == (200, b"")


async def test_a_compressed_body_is_read_as_text():
    result = await meet(status(200, gzip.compress(b"thank you"), {"Content-Encoding": "gzip"}))
    assert isinstance(result, Response)
    assert result.body == b"thank you"


async def test_the_limit_counts_what_a_body_is_after_decompression():
    bomb = gzip.compress(b"\0" * 50_000_000)
    result = await meet(status(200, bomb, {"Content-Encoding": "gzip"}))
    assert isinstance(result, Response)
    assert result.body == b"\0" * LIMIT


# Connections


async def test_requests_one_after_the_other_share_a_connection():
    async with Receiver() as receiver, transport() as sender:
        for _ in range(5):
            await sender.send(request(receiver.url()))
        await sender.send(request(receiver.url("/other")))
    assert receiver.connections == 1


async def test_a_thousand_requests_at_once_all_get_their_own_answer():
    async def echo(exchange: Exchange) -> None:
        await exchange.answer(200, exchange.request.body)

    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(echo)
        bodies = [str(number).encode() for number in range(1000)]
        results = await asyncio.gather(
            *[sender.send(request(receiver.url(), body, timeout=60.0)) for body in bodies]
        )
    assert [result.body for result in results if isinstance(result, Response)] == bodies


async def test_a_connection_that_the_receiver_closed_while_idle_is_not_used_again():
    async def answer_and_close(exchange: Exchange) -> None:
        await exchange.answer(200)
        exchange.writer.write_eof()
        # The end of the stream means that the sender has seen ours, and has dropped the connection.
        await exchange.until_the_sender_is_gone()
        exchange.keep = False

    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(in_turn(answer_and_close, ok()))
        await sender.send(request(receiver.url()))
        await receiver.wait_until_closed()
        assert isinstance(await sender.send(request(receiver.url())), Response)
    assert receiver.connections == 2


async def test_an_idle_connection_is_closed_after_a_while(monkeypatch):
    monkeypatch.setattr(pool, "KEEPALIVE_SECONDS", 0.02)
    async with Receiver() as receiver, transport() as sender:
        await sender.send(request(receiver.url()))
        await receiver.wait_until_closed()


@pytest.mark.parametrize("ending", [raw(b""), reset()])
async def test_a_connection_that_ends_as_it_is_used_again_costs_no_attempt_and_the_second_request_is_told(
    ending,
):
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(in_turn(ok(), ending, ok()))
        first = await sender.send(request(receiver.url()))
        result = await sender.send(request(receiver.url()))
    assert isinstance(result, Response)
    assert (first.requests, result.requests) == (1, 2)
    assert [seen.connection for seen in receiver.seen] == [1, 1, 2]
    assert receiver.seen[1].head == receiver.seen[2].head and receiver.seen[1].body == receiver.seen[2].body


async def test_a_request_goes_out_twice_at_most_and_only_once_on_a_connection_of_its_own():
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(in_turn(raw(b""), ok(), raw(b""), raw(b"")))
        results = [await sender.send(request(receiver.url())) for _ in range(3)]
    assert [type(result) for result in results] == [Failure, Response, Failure]
    assert [result.requests for result in results] == [1, 1, 2]
    assert [seen.connection for seen in receiver.seen] == [1, 2, 2, 3]


@pytest.mark.parametrize(
    "broken", [raw(b"HTTP/1.1 200 OK\r\n"), raw(head(200, {"Content-Length": "3"}) + b"x")]
)
async def test_who_began_to_answer_has_got_the_request_and_is_not_sent_it_again(broken):
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(in_turn(ok(), broken, ok()))
        await sender.send(request(receiver.url()))
        assert isinstance(await sender.send(request(receiver.url())), Failure)
        assert len(receiver.seen) == 2


async def test_who_closes_the_connection_after_a_while_has_got_the_request_and_is_not_sent_it_again(
    monkeypatch,
):
    monkeypatch.setattr(client, "ONE_WAY", 0.02)
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(in_turn(ok(), slow(0.1, raw(b"")), ok()))
        await sender.send(request(receiver.url()))
        assert isinstance(await sender.send(request(receiver.url())), Failure)
        assert len(receiver.seen) == 2


async def test_what_is_counted_for_a_rate_limit_goes_out_once():
    sent: list[None] = []
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(in_turn(ok(), raw(b""), ok()))
        for _ in range(2):
            result = await sender.send(request(receiver.url()), lambda: sent.append(None))
        assert len(receiver.seen) == len(sent) == 2
    assert isinstance(result, Failure)


async def test_a_connection_that_is_closed_as_soon_as_it_stands_is_a_failure_that_says_so():
    async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close_at_once, "127.0.0.1", 0) as server, transport() as sender:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        results = [await sender.send(request(url)) for _ in range(20)]
        connection = Connection("receiver.example", sender._ways.pool)
        connection.connection_made(cast(asyncio.Transport, asyncio.Transport()))
        connection.connection_lost(None)
        with pytest.raises(Refused, match="closed the connection without an answer"):
            await connection.ask(b"", b"", 0)
    assert {result.kind for result in results if isinstance(result, Failure)} <= {
        ErrorKind.CONNECT,
        ErrorKind.PROTOCOL,
    }
    assert all("127.0.0.1" in result.message for result in results if isinstance(result, Failure))


# Another policy


async def test_another_policy_holds_for_names_addresses_and_connections_that_were_fine_before(monkeypatch):
    forbidding = Policy(allow_http=True)
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with Receiver() as receiver, transport() as sender:
            urls = [receiver.url(), f"http://receiver.example:{receiver.port}/"]
            for url in urls:
                assert isinstance(await sender.send(request(url)), Response)
            sender.adopt(forbidding)
            refused = [await sender.send(request(url)) for url in urls]
            sender.adopt(LOOPBACK)
            assert isinstance(await sender.send(request(urls[0])), Response)
    assert {result.kind for result in refused if isinstance(result, Failure)} == {ErrorKind.BLOCKED_ADDRESS}
    assert len(receiver.seen) == 3


async def test_another_policy_leaves_requests_under_way_alone_and_their_connections_end_when_idle(
    monkeypatch,
):
    monkeypatch.setattr(pool, "KEEPALIVE_SECONDS", 0.02)
    answered = asyncio.Event()
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(after(answered))
        under_way = asyncio.create_task(sender.send(request(receiver.url())))
        await receiver.wait_for(1)
        sender.adopt(Policy())
        answered.set()
        assert isinstance(await under_way, Response)
        await receiver.wait_until_closed()


async def test_the_same_policy_again_changes_nothing():
    async with Receiver() as receiver, transport() as sender:
        await sender.send(request(receiver.url()))
        sender.adopt(Policy.of(["127.0.0.0/8"], allow_http=True))
        await sender.send(request(receiver.url()))
    assert receiver.connections == 1


# Cancelling and closing


async def test_cancelling_a_send_cancels_it_and_closes_its_connection():
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(hang())
        task = asyncio.create_task(sender.send(request(receiver.url())))
        await receiver.wait_for(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.wait_until_closed()


async def test_requests_under_way_when_the_transport_closes_end_as_shutdown():
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(hang())
        receiver.on("/body", drip(head(200, {"Content-Length": "1000"})))
        tasks = [asyncio.create_task(sender.send(request(receiver.url(path)))) for path in ("/", "/body")]
        await receiver.wait_for(2)
        await sender.close()
        results = await asyncio.gather(*tasks)
    assert {result.kind for result in results if isinstance(result, Failure)} == {ErrorKind.SHUTDOWN}


async def test_a_lookup_under_way_when_the_transport_closes_ends_as_shutdown(monkeypatch):
    asked, answered = threading.Event(), threading.Event()

    def slowly(host: str) -> list[str]:
        asked.set()
        answered.wait(30)
        return ["127.0.0.1"]

    try:
        with names(monkeypatch, slowly):
            async with transport() as sender:
                tasks = [asyncio.create_task(sender.send(request("http://slow.example/"))) for _ in range(3)]
                await asyncio.to_thread(asked.wait, 10)
                await sender.close()
                results = await asyncio.gather(*tasks)
    finally:
        answered.set()
    assert {result.kind for result in results if isinstance(result, Failure)} == {ErrorKind.SHUTDOWN}


async def test_an_answer_that_is_on_its_way_is_waited_for():
    answered = asyncio.Event()
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(after(answered, ok()))
        task = asyncio.create_task(sender.send(request(receiver.url())))
        await receiver.wait_for(1)
        assert not task.done()
        answered.set()
        assert isinstance(await task, Response)


async def test_sending_before_the_start_is_our_own_mistake():
    with pytest.raises(RuntimeError, match=r"before Transport\.start"):
        await Transport(LOOPBACK, LIMIT).send(request("http://127.0.0.1/"))
