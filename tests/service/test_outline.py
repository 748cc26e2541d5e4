"""Bodies that list too much are refused before they are decoded; no body that a request can need is."""

from __future__ import annotations

import gzip

import httpx
import msgspec
import pytest

from poseline.codec import JSON, MSGPACK
from poseline.errors import MalformedMessage, TooLarge
from poseline_service.outline import check_outline
from servers import ServerProcess

FRAMES = 108_000
HEAD = b'{"layout": "body16", "fps": 30, '
TRACKS = HEAD + b'"tracks": [{"track_id": "p", "keypoints": ['
MANY = 1_000_000
BOMBS = {
    "empty frames": TRACKS + b"[[]]," * MANY + b"[[]]]}]}",
    "spread frames": TRACKS + b"[ ] ,\n" * MANY + b"[]]}]}",
    "numbers as frames": TRACKS + b"1," * MANY + b"1]}]}",
    "a second list": TRACKS + b"[]," * MANY + b'[]], "keypoints": []}]}',
    "timestamps": HEAD + b'"tracks": [], "timestamps": [' + b"1," * MANY + b"1]}",
    "tracks": HEAD + b'"tracks": [' + b"{}," * MANY + b"{}]}",
    "classes": HEAD + b'"tracks": [], "options": {"classes": [' + b'"",' * MANY + b'""]}}',
    "brackets in a name": TRACKS.replace(b'"p"', b'"[[[["') + b"[]," * MANY + b"[]]}]}",
    "quotes in a name": TRACKS.replace(b'"p"', rb'"\"[[\\\"[[\\"') + b"[]," * MANY + b"[]]}]}",
    "backslashes": TRACKS.replace(b'"p"', b'"' + b"\\\\" * MANY + b'"') + b"]}]}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_lists_too_much_is_refused_unread(name: str) -> None:
    with pytest.raises(TooLarge) as refused:
        check_outline(BOMBS[name], JSON, FRAMES)
    assert refused.value.code == "too_many_frames"


@pytest.mark.parametrize("joint", [b"[0,0]", b"[0.1,-1e-3]", b"null"])
@pytest.mark.parametrize("tracks", [1, 32])
def test_the_longest_recording_passes(joint: bytes, tracks: int) -> None:
    joints = 64 * 1024**2 // FRAMES // (len(joint) + 1) - 1
    frames = b",".join([b"[" + b",".join([joint] * min(joints, 133)) + b"]"] * (FRAMES // tracks))
    people = b",".join(rb'{"track_id": "[p\"]}%d", "keypoints": [%s]}' % (n, frames) for n in range(tracks))
    clock = b",".join(b"%d" % n for n in range(FRAMES))
    check_outline(b'{"layout": "body16", "tracks": [' + people + b'], "timestamps": [' + clock + b"]}", JSON, FRAMES)


def listed(head: bytes, value: bytes, count: int = MANY) -> bytes:
    return head + b"\xdd" + count.to_bytes(4) + value * count


PACKED = b"\x81\xa6tracks\x91\x81\xa9keypoints"
TWICE = PACKED.replace(b"\x91\x81", b"\x91\x82")
PACKED_BOMBS = {
    "values": listed(b"", b"\x90"),
    "fields": b"\xdf" + MANY.to_bytes(4) + b"\xa1x\x90" * MANY,
    "tracks": listed(b"\x81\xa6tracks", b"\x80"),
    "empty frames": listed(PACKED, b"\x90"),
    "numbers as frames": listed(PACKED, b"\x07"),
    "timestamps": listed(b"\x81\xaatimestamps", b"\x01"),
    "classes": listed(b"\x81\xa7options\x81\xa7classes", b"\xa0"),
    "frames of many tracks": b"\x81\xa6tracks\xdc\x00\x64" + listed(b"\x81\xa9keypoints", b"\x90", MANY // 100) * 100,
}


@pytest.mark.parametrize("name", PACKED_BOMBS)
def test_messagepack_that_lists_too_much_is_refused_unread(name: str) -> None:
    with pytest.raises(TooLarge) as refused:
        check_outline(PACKED_BOMBS[name], MSGPACK, FRAMES)
    assert refused.value.code == "too_many_frames"


@pytest.mark.parametrize("last", [100, MANY])
def test_a_field_that_comes_twice_hides_nothing(last: int) -> None:
    first = listed(TWICE, b"\x90", MANY + 100 - last)
    with pytest.raises(MalformedMessage, match="twice"):
        check_outline(listed(first + b"\xa9keypoints", b"\x90", last), MSGPACK, FRAMES)


@pytest.mark.parametrize(
    "body",
    [
        b"\x81\x07" + b"\x00" * MANY,
        PACKED + b"\xdd" + FRAMES.to_bytes(4) + b"\x93\x01\x01\x01" * (FRAMES - 1),
        listed(TWICE, b"\x93\x01\x01\x01", FRAMES) + b"\x07\x07",
    ],
    ids=["no name", "cut off", "no name after frames"],
)
def test_malformed_messagepack_is_refused_unread(body: bytes) -> None:
    """A decoder would read all frames before it finds out."""
    with pytest.raises(MalformedMessage):
        check_outline(body, MSGPACK, FRAMES)


@pytest.mark.parametrize("tracks", [1, 32])
def test_the_longest_recording_in_messagepack_passes(tracks: int) -> None:
    frames = [[[0.5, 0.5, 0.5]] * 16] * (FRAMES // tracks)
    people = [{"track_id": f"p{n}", "keypoints": frames} for n in range(tracks)]
    check_outline(msgspec.msgpack.encode({"tracks": people, "timestamps": list(range(FRAMES))}), MSGPACK, FRAMES)


def test_the_server_says_so(server: ServerProcess) -> None:
    body = gzip.compress(BOMBS["empty frames"])
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{server.url}/v1/localize", content=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_frames")
    assert "values beside joints" in answer.json()["detail"]
