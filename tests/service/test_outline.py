"""Bodies that list too much are refused before they are decoded; no body that a request can need is."""

from __future__ import annotations

import gzip

import httpx
import pytest

from poseline.errors import TooLarge
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
        check_outline(BOMBS[name], FRAMES)
    assert refused.value.code == "too_many_frames"


@pytest.mark.parametrize("joint", [b"[0,0]", b"[0.1,-1e-3]", b"null"])
@pytest.mark.parametrize("tracks", [1, 32])
def test_the_longest_recording_passes(joint: bytes, tracks: int) -> None:
    joints = 64 * 1024**2 // FRAMES // (len(joint) + 1) - 1
    frames = b",".join([b"[" + b",".join([joint] * min(joints, 133)) + b"]"] * (FRAMES // tracks))
    people = b",".join(rb'{"track_id": "[p\"]}%d", "keypoints": [%s]}' % (n, frames) for n in range(tracks))
    clock = b",".join(b"%d" % n for n in range(FRAMES))
    check_outline(b'{"layout": "body16", "tracks": [' + people + b'], "timestamps": [' + clock + b"]}", FRAMES)


def test_the_server_says_so(server: ServerProcess) -> None:
    body = gzip.compress(BOMBS["empty frames"])
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{server.url}/v1/localize", content=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_frames")
    assert "values beside joints" in answer.json()["detail"]
