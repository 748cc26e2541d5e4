"""Clients that mean harm: each is cut off, what they hold is bounded, and others hear nothing of it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from hostile import UPGRADE, Raw, answers, close_code, masked
from made_up import NATIVE, frames_of, request_of
from poseline.client import StreamClient
from poseline.codec import MSGPACK, encode
from poseline.protocol import ServerMessage, SessionStart
from poseline.remote import play
from poseline_service.bodies import zstd
from poseline_service.frames import RATION
from poseline_service.guard import neighbourhood
from servers import PATIENCE, ServerProcess

HEAD_BYTES, HERE, ALL = 4096, 24, 40
BODY, BODIES, DECOMPRESSED = 400_000, 1_000_000, 8 * 1024**2
BOMB = 32 * 1024**2
TOO_MANY = 2 * RATION + 1
"""Small frames: more than one ration, however two reads share them."""


@pytest.fixture(scope="module")
def strict(models: Path) -> Iterator[ServerProcess]:
    """A server with little patience; what a test does to it must be over when it ends."""
    server = ServerProcess(
        models,
        head_seconds=1,
        head_bytes=HEAD_BYTES,
        idle_seconds=2,
        connections=ALL,
        connections_per_address=HERE,
        body_bytes=BODY,
        all_body_bytes=BODIES,
        decompressed_bytes=DECOMPRESSED,
    )
    try:
        yield server.ready()
        assert server.process.poll() is None
    finally:
        log = server.stop()
    assert "Traceback" not in log, log[log.find("Traceback") - 300 :][:3000]


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"{line} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")).encode() + body


GET = request("GET /livez")
POST = ("POST /v1/localize", "Content-Type: application/json", f"Content-Length: {BODY // 2}")

# What comes, and comes no further → what is said before the line is cut.
UNFINISHED: dict[str, tuple[bytes, list[tuple[int, str | None]]]] = {
    "nothing at all": (b"", []),
    "blank lines": (b"\r\n\r\n", [(408, "too_slow")]),
    "half a head": (request("GET /")[:-2], [(408, "too_slow")]),
    "half an upgrade": (UPGRADE, [(408, "too_slow")]),
    "half of the second head": (GET + GET[:9], [(200, None), (408, "too_slow")]),
    "a body that is wanted": (request(*POST), [(408, "idle_timeout")]),
    "a body that nobody wants": (request("POST /nowhere", "Content-Length: 1000000", body=b"x"), [(404, "not_found")]),
    "another request in time": (GET + GET, [(200, None), (200, None)]),  # uvicorn's own patience between requests
}


async def test_what_does_not_end_is_cut_off_and_nobody_else_waits(strict: ServerProcess) -> None:
    async def told(sent: bytes) -> list[tuple[int, str | None]]:
        raw = await Raw.open(strict.port)
        await raw.send(sent)
        return answers(await raw.rest())

    async def drip(sent: bytes) -> list[tuple[int, str | None]]:
        raw = await Raw.open(strict.port)
        reading = asyncio.ensure_future(raw.rest())
        for byte in sent:
            if reading.done():
                break
            await raw.send(bytes([byte]))
            await asyncio.sleep(0.05)
        return answers(await reading)

    before = {reason: refused(strict, reason) for reason in ("slow_head", "slow_body")}
    frames = frames_of(5, 180)
    async with StreamClient(strict.ws, coordinates=NATIVE) as alone:
        expected = told_by([message async for message in play(alone, frames, chunk=30)])
    async with StreamClient(strict.ws, coordinates=NATIVE) as bystander:
        cases = asyncio.gather(*(told(sent) for sent, _ in UNFINISHED.values()))
        dripping = asyncio.ensure_future(drip(UPGRADE * 10))
        heard = told_by([message async for message in play(bystander, frames, chunk=30)])
    assert dict(zip(UNFINISHED, await cases, strict=True)) == {name: said for name, (_, said) in UNFINISHED.items()}
    assert await dripping == [(408, "too_slow")]
    assert heard == expected
    await gone(strict)
    assert [refused(strict, reason) - n for reason, n in before.items()] == [6, 2]


def told_by(heard: list[ServerMessage]) -> list[tuple[object, ...]]:
    kinds = [one for one in heard if hasattr(one, "segment_id")]
    return [(type(one), one.segment_id, getattr(one, "start", None), getattr(one, "end", None)) for one in kinds]


REFUSED = 'poseline_connections_refused_total{{reason="{}"}}'


def refused(server: ServerProcess, reason: str) -> float:
    """Connections so far; tests share the server, in any order."""
    return server.metrics().get(REFUSED.format(reason), 0.0)


async def gone(server: ServerProcess) -> None:
    await asyncio.to_thread(server.wait_for_metric, "poseline_connections", 0)


CHUNKED = request(POST[0], POST[1], "Transfer-Encoding: chunked", body=b"1\r\n{\r\n")

LARGE = {
    "one header": request("GET /livez", "X: " + "x" * HEAD_BYTES),
    "many headers": request("GET /livez", *(f"X-{n}: y" for n in range(HEAD_BYTES // 8))),
    "the address": request("GET /livez?" + "x" * HEAD_BYTES),
    "no end of it": b"GET /livez HTTP/1.1\r\nX: " + b"x" * (100 * HEAD_BYTES),
    "an upgrade": UPGRADE + b"X: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
    "behind a body": request("POST /livez", "Content-Length: 3", body=b"abc" + b"GET /" + b"x" * (3 * HEAD_BYTES)),
    "trailers": CHUNKED + b"0\r\n" + b"X: y\r\n" * HEAD_BYTES,
    "a trailer without end": CHUNKED + b"0\r\nX: " + b"x" * (100 * HEAD_BYTES),
    "a trailer's name without end": CHUNKED + b"0\r\n" + b"x" * (100 * HEAD_BYTES),
    "a chunk extension without end": CHUNKED + b"1;" + b"x" * (100 * HEAD_BYTES),
}


@pytest.mark.parametrize("name", LARGE)
async def test_a_head_has_a_largest_size(strict: ServerProcess, name: str) -> None:
    raw = await Raw.open(strict.port)
    await raw.send(LARGE[name])
    assert answers(await raw.rest())[-1] == (431, "head_too_large")


async def test_a_head_of_just_that_size_is_taken_in_any_pieces(strict: ServerProcess) -> None:
    whole = request("GET /livez", "Connection: close", "X: " + "x" * (HEAD_BYTES - 69))
    assert HEAD_BYTES - 8 <= len(whole) <= HEAD_BYTES
    for size in (len(whole), 1000, 77):
        raw = await Raw.open(strict.port)
        for at in range(0, len(whole), size):
            await raw.send(whole[at : at + size])
        assert answers(await raw.rest()) == [(200, None)]


async def test_a_trailer_is_no_header(strict: ServerProcess) -> None:
    kind, end = "Content-Type: application/json", b"1\r\n{\r\n0\r\n"
    chunked = ("POST /v1/localize", "Transfer-Encoding: chunked", "Connection: close")
    for sent, told in (
        (request(*chunked, body=end + kind.encode() + b"\r\n\r\n"), (415, "unsupported_media_type")),
        (request(*chunked, kind, body=end + b"Content-Type: text/plain\r\n\r\n"), (400, "invalid_json")),
    ):
        raw = await Raw.open(strict.port)
        await raw.send(sent)
        assert answers(await raw.rest()) == [told]


async def test_a_long_body_is_no_head(strict: ServerProcess) -> None:
    answer = httpx.post(
        strict.url + "/localize", content=b" " * (BODY - 1), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


async def test_requests_do_not_pile_up_behind_one_another(strict: ServerProcess) -> None:
    raw = await Raw.open(strict.port)
    await raw.send(GET * 1000)
    assert len(answers(await raw.rest())) < 20
    early = await Raw.open(strict.port)
    await early.send(request("GET /demo/actor.json?seconds=120") + UPGRADE + b"\r\n")
    assert [status for status, _ in answers(await early.rest())] == [400]
    few = await Raw.open(strict.port)
    await few.send(GET * 7 + request("GET /livez", "Connection: close"))
    assert answers(await few.rest()) == [(200, None)] * 8


async def test_who_does_not_read_the_answer_is_cut_off(strict: ServerProcess) -> None:
    raw, before = await Raw.open(strict.port, receive_buffer=4096), refused(strict, "not_reading")
    await raw.send(request("GET /demo/actor.json?seconds=120") * 4)
    await asyncio.to_thread(strict.wait_for_metric, REFUSED.format("not_reading"), before + 1)
    await gone(strict)
    raw.drop()


async def test_answers_that_nobody_reads_have_a_bound_in_common(models: Path) -> None:
    wanted = request("GET /demo/actor.json?seconds=120") * 8  # 11 MB, of which the system itself holds some
    server = ServerProcess(models, unread_bytes=2_000_000)
    held: list[Raw] = []
    try:
        server.ready()
        while not (cut := refused(server, "unread_bytes")):
            assert len(held) < 40
            held.append(await Raw.open(server.port, receive_buffer=4096))
            await held[-1].send(wanted)
            await asyncio.sleep(0.3)
        assert cut < len(held)
        assert len(answers(await held[0].rest())) < 8  # who has waited for longest
    finally:
        for one in held:
            one.drop()
        log = await asyncio.to_thread(server.stop)
    assert "Traceback" not in log


async def test_connections_have_a_limit_for_each_address_and_for_all(strict: ServerProcess) -> None:
    async with StreamClient(strict.ws, coordinates=NATIVE):  # a stream counts as long as it lives
        mine = [await Raw.open(strict.port) for _ in range(HERE - 1)]
        await asyncio.to_thread(strict.wait_for_metric, "poseline_connections", HERE)
        for address, reason in (("127.0.0.1", "address"), ("127.0.0.3", "connections")):
            before = refused(strict, reason)
            told = await (await Raw.open(strict.port, address)).rest()
            assert answers(told) == [(503, "too_many_connections")]
            assert b"\r\nretry-after: " in told.lower()
            assert refused(strict, reason) == before + 1
            if reason == "address":
                mine += [await Raw.open(strict.port, "127.0.0.2") for _ in range(ALL - HERE)]
                await asyncio.to_thread(strict.wait_for_metric, "poseline_connections", ALL)
        for one in mine:
            one.drop()
        await asyncio.to_thread(strict.wait_for_metric, "poseline_connections", 1)
        assert httpx.get(strict.url + "/livez").status_code == 200
    await gone(strict)


def test_a_network_counts_as_one_where_hosts_have_many_addresses() -> None:
    assert neighbourhood("192.0.2.1") != neighbourhood("192.0.2.2")
    assert neighbourhood("2001:db8:1:2::1") == neighbourhood("2001:db8:1:2:ffff::9%eth0")
    assert neighbourhood("2001:db8:1:2::1") != neighbourhood("2001:db8:1:3::1")
    assert neighbourhood("::ffff:192.0.2.1") == neighbourhood("192.0.2.1")


async def test_bodies_have_a_bound_in_common(strict: ServerProcess) -> None:
    head = request(POST[0], POST[1], f"Content-Length: {BODY}")
    held = []
    for _ in range(3):
        held.append(await Raw.open(strict.port))
        await held[-1].send(head + b" " * (BODY - 100))
    told = [answers(await raw.rest()) for raw in held]
    assert sorted(told) == [[(408, "idle_timeout")], [(408, "idle_timeout")], [(503, "overloaded")]]


async def test_bombs_are_refused_and_take_no_memory(strict: ServerProcess) -> None:
    bombs = {
        "zeros": b"\0" * (8 * DECOMPRESSED),
        "spaces": b" " * (8 * DECOMPRESSED),
        "empty frames": b'{"layout":"body16","fps":30,"tracks":[{"track_id":"a","keypoints":['
        + b"[]," * (DECOMPRESSED // 4),
        "depth": b"[" * (DECOMPRESSED - 1),
        "digits": b'{"fps":' + b"9" * (DECOMPRESSED // 2) + b"}",
    }
    packed = [("gzip", gzip.compress(bomb)) for bomb in bombs.values()]
    packed.append(("zstd", zstd.compress(bombs["zeros"])))
    async with httpx.AsyncClient() as client:
        honest = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        body = gzip.compress(encode(request_of(1, 60)))
        assert (await client.post(strict.url + "/v1/localize", content=body, headers=honest)).status_code == 200
        before = peak(strict)  # with all that an honest recording has made once
        for _ in range(3):
            posts = [
                client.post(
                    strict.url + "/v1/localize",
                    content=body,
                    headers={"Content-Type": "application/json", "Content-Encoding": coding},
                )
                for coding, body in packed
            ]
            found = [(answer.status_code, answer.json()["code"]) for answer in await asyncio.gather(*posts)]
            assert found == [
                (413, "decompressed_too_large"),
                (413, "decompressed_too_large"),
                (413, "too_many_frames"),
                (400, "invalid_message"),
                (400, "invalid_number"),
                (413, "decompressed_too_large"),
            ]
    assert peak(strict) - before < 6 * DECOMPRESSED


async def test_bombs_are_inflated_one_at_a_time_wherever_they_come(serve: Callable[..., ServerProcess]) -> None:
    """Eight at once would take eight times what one may."""
    server = serve(decompressed_bytes=BOMB).ready()
    bomb = gzip.compress(b" " * (2 * BOMB))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        body = gzip.compress(encode(request_of(1, 60)))
        honest = await client.post(server.url + "/v1/localize", content=body, headers=headers)
        assert honest.status_code == 200
        before = peak(server)
        for path in ("/v1/localize", "/v1/models/default/prototypes"):
            posts = [client.post(server.url + path, content=bomb, headers=headers) for _ in range(8)]
            codes = [answer.json()["code"] for answer in await asyncio.gather(*posts)]
            assert codes == ["decompressed_too_large"] * 8
            assert peak(server) - before < 3 * BOMB, path


def peak(server: ServerProcess) -> int:
    """The most bytes that it ever had resident."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("this system does not tell a process' peak of memory")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# --- WebSocket ---------------------------------------------------------------------------------------------------

START = encode(SessionStart(layout="body16", coordinates=NATIVE))


def text(payload: bytes | str, *, fin: bool = True) -> bytes:
    return masked(Opcode.TEXT, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def more(payload: bytes, *, fin: bool = False) -> bytes:
    return masked(Opcode.CONT, payload, fin=fin)


def frame_with(joint: str) -> bytes:
    people = '{"id":"a","kp":[' + ",".join([joint] * 16) + "]}"
    return text('{"type":"frames","seq":0,"frames":[{"t":0,"people":[' + people + "]}]}")


KEEPALIVE = text('{"type":"keepalive"}')
MEBIBYTE = 1 << 20

WRONG: dict[str, tuple[list[bytes], int]] = {
    "unmasked": ([b"\x81\x02{}"], 1002),
    "reserved bit 1, as compressed messages have": ([b"\xc1\x82abcd{}"], 1002),
    "reserved bit 2": ([b"\xa1\x82abcd{}"], 1002),
    "reserved bit 3": ([b"\x91\x82abcd{}"], 1002),
    "reserved data opcode": ([b"\x83\x80abcd"], 1002),
    "reserved control opcode": ([b"\x8b\x80abcd"], 1002),
    "fragmented ping": ([b"\x09\x80abcd"], 1002),
    "ping of 126 bytes": ([b"\x89\xfe\x00\x7eabcd" + bytes(126)], 1002),
    "continuation of nothing": ([more(b"x")], 1002),
    "message within a message": ([text("{", fin=False), text("{")], 1002),
    "close code that does not exist": ([masked(Opcode.CLOSE, b"\x03\xe7")], 1002),
    "close of one byte": ([masked(Opcode.CLOSE, b"\x03")], 1002),
    "close reason that is not UTF-8": ([masked(Opcode.CLOSE, b"\x03\xe8\xff")], 1007),
    "text that is not UTF-8": ([text(b'{"type":"keepalive","x":"\xff"}')], 1007),
    "text that is not UTF-8, in fragments": (
        [text(b'{"type":"keepalive","x":"\xe2', fin=False), more(b'"}', fin=True)],
        1007,
    ),
    "a surrogate": ([text(b'{"type":"keepalive","x":"\xed\xa0\x80"}')], 1007),
    "a terabyte declared": ([b"\x82\xff" + (1 << 40).to_bytes(8) + b"abcd"], 1009),
    "a length beyond all": ([b"\x82\xff" + bytes([255] * 8) + b"abcd"], 1009),
    "a mebibyte in fragments": ([text("{", fin=False), *[more(bytes(60_000))] * 5], 1009),
    "pings without end": ([masked(Opcode.PING, b"") * TOO_MANY], 1008),
    "pongs without end": ([masked(Opcode.PONG, b"x") * TOO_MANY], 1008),
    "fragments without end": ([text("{", fin=False) + more(b"") * TOO_MANY], 1008),
    "depth": ([text("[" * 100_000)], 4400),
    "depth where nobody looks": ([text('{"type":"keepalive","x":' + "[" * 100_000 + "]" * 100_000 + "}")], 4400),
    "depth of objects": ([text('{"type":"keepalive","x":' + '{"x":' * 20_000 + "1" + "}" * 20_001)], 4400),
    "an integer of 100 000 digits": ([text(START), frame_with("[0,0," + "9" * 10_000 + "]")], 4400),
    "a number beyond all": ([text(START), frame_with("[0,0,1e999]")], 4400),
    "an exponent beyond all": ([text(START), frame_with("[0,0,1e" + "9" * 1000 + "]")], 4400),
    "a sequence number beyond all": ([text(START), text('{"type":"frames","seq":1e300,"frames":[]}')], 4400),
    "nothing at all": ([text("")], 4400),
    "bytes in a session of text": ([masked(Opcode.BINARY, b"")], 1003),
}

WRONG_PACKED: dict[str, bytes] = {
    "four thousand million entries declared": b"\xdd\xff\xff\xff\xff",
    "as many fields": b"\xdf\xff\xff\xff\xff",
    "as many bytes": b"\x81\xa4type\xc6\xff\xff\xff\xff",
    "depth": b"\x91" * 200_000,
    "depth where nobody looks": b"\x82\xa4type\xa9keepalive\xa1x" + b"\x91" * 200_000 + b"\xc0",
    "an extension": b"\xc7\x04\x7fabcd",
    "a text that is not UTF-8": b"\x81\xa4type\xa1\xff",
    "the byte that is never used": b"\xc1",
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_frame_that_is_wrong_ends_its_stream_alone(server: ServerProcess, name: str) -> None:
    sent, code = WRONG[name]
    assert await close_code(server.port, *sent) == code


@pytest.mark.parametrize("name", WRONG_PACKED)
async def test_packed_messages_that_are_wrong_end_their_stream_alone(server: ServerProcess, name: str) -> None:
    packed = masked(Opcode.BINARY, WRONG_PACKED[name])
    assert await close_code(server.port, packed, subprotocol=MSGPACK.subprotocol) == 4400


async def test_what_is_rationed_comes_again(server: ServerProcess) -> None:
    async with connect(server.ws) as socket:
        for _ in range(3):
            for _ in range(RATION // 2):
                await (await socket.ping())
            await asyncio.sleep(0.5)
        await socket.send(START, text=True)
        assert json.loads(await socket.recv())["type"] == "session.started"


async def test_compression_is_never_agreed(server: ServerProcess) -> None:
    raw = await Raw.open(server.port)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, permessage-deflate\r\n\r\n"
    await raw.send(UPGRADE + offer)
    head = await raw.head()
    raw.drop()
    assert head.startswith(b"HTTP/1.1 101")
    assert b"sec-websocket-extensions" not in head.lower()
