"""How bodies may be written: two encodings, two compressions, the same answer; and what a small body cannot do."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from itertools import product
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from backports import zstd

from job_calls import accepted, found, long_recording, over
from made_up import recording, request_of
from poseline.codec import JSON, MEDIA_TYPES, MSGPACK, Codec
from poseline.errors import MalformedMessage, PoselineError
from poseline.keypoints import count_frames
from poseline.pose import PoseSequence
from poseline.protocol import LocalizeRequest, LocalizeResponse, TrackSpec
from poseline.remote import localize, request_for
from poseline_service.bodies import BodyFormat
from servers import ServerProcess

COMPRESS = {"identity": bytes, "gzip": gzip.compress, "zstd": zstd.compress}
PEOPLE = {"p1": recording(3, 120), "p2": recording(4, 120)}
LIMIT = 8_000_000


def post(server: ServerProcess, codec: Codec, coding: str, data: bytes, path: str = "/v1/localize", **more: str) -> Any:
    headers = {"Content-Type": codec.media_type, "Content-Encoding": coding}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return httpx.post(server.url + path, content=COMPRESS[coding](data), headers=headers, timeout=60)


def same(one: LocalizeResponse, other: LocalizeResponse) -> bool:
    return [msgspec.structs.replace(a, score=0) for a in one.segments] == [
        msgspec.structs.replace(b, score=0) for b in other.segments
    ] and np.allclose([a.score for a in one.segments], [b.score for b in other.segments], atol=1e-4)


# --- over the wire -----------------------------------------------------------------------------------------------


def test_however_it_is_written_the_answer_is_the_same(server: ServerProcess) -> None:
    expected = localize(server.url, request_for(PEOPLE))
    assert len(expected.segments) > 2
    for codec, coding in product(MEDIA_TYPES.values(), COMPRESS):
        answer = post(server, codec, coding, codec.encode(request_for(PEOPLE, codec=codec)))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert same(JSON.decode_response(answer.content), expected)


def test_keypoints_may_be_packed_or_listed_in_either_encoding(server: ServerProcess) -> None:
    expected = localize(server.url, request_for(PEOPLE))
    packed = request_for(PEOPLE, codec=MSGPACK)
    assert same(localize(server.url, packed, codec=JSON), expected)
    listed = msgspec.json.decode(JSON.encode(request_for(PEOPLE)))
    answer = post(server, MSGPACK, "identity", msgspec.msgpack.encode(listed))
    assert same(JSON.decode_response(answer.content), expected)


@pytest.mark.parametrize(
    ("accept", "codec"),
    [
        ("application/msgpack", MSGPACK),
        ("application/json, application/msgpack", MSGPACK),
        ("application/json, application/msgpack;q=0.5", JSON),
        ("application/msgpack; q=0", JSON),
        ("application/msgpack; q=soon", JSON),
        ("*/*", JSON),
        ("text/html", JSON),
    ],
)
def test_the_answer_is_written_as_it_is_accepted(server: ServerProcess, accept: str, codec: Codec) -> None:
    answer = post(server, JSON, "identity", JSON.encode(request_of(3, 60)), Accept=accept)
    assert answer.headers["content-type"] == codec.media_type
    assert codec.decode_response(answer.content).duration == pytest.approx(2)


def test_a_job_takes_them_all(server: ServerProcess) -> None:
    expected = localize(server.url, request_for(PEOPLE))
    for codec in MEDIA_TYPES.values():
        data = codec.encode(request_for(PEOPLE, codec=codec))
        path = accepted(post(server, codec, "zstd", data, "/v1/jobs"))
        assert over(server, path)["state"] == "succeeded"
        assert [one.label for one in found(server, path)] == [one.label for one in expected.segments]


def test_a_video_is_not_compressed_again(server: ServerProcess) -> None:
    headers = {"Content-Type": "video/mp4", "Content-Encoding": "zstd"}
    answer = httpx.post(f"{server.url}/v1/jobs", content=b"", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")


def test_nobody_waits_longer_than_he_said(server: ServerProcess) -> None:
    slow = long_recording(200)
    begin = time.monotonic()
    answer = post(server, JSON, "zstd", slow, X_Request_Timeout_Ms="100")
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - begin < 10
    for _ in range(5):  # each leaves its place to the next
        assert post(server, JSON, "zstd", slow, X_Request_Timeout_Ms="1").status_code == 504
    enough = post(server, JSON, "identity", JSON.encode(request_of(3, 60)), X_Request_Timeout_Ms="60000")
    assert enough.status_code == 200
    for wrong in ("0", "60001", "soon", "-1", "1.5"):
        assert post(server, JSON, "identity", b"{}", X_Request_Timeout_Ms=wrong).json()["code"] == "invalid_input"


# --- what is wrong with a body -----------------------------------------------------------------------------------


def track(keypoints: Any) -> dict[str, Any]:
    return {"layout": "body16", "fps": 30, "tracks": [{"track_id": "p1", "keypoints": keypoints}]}


WRONG: dict[str, tuple[dict[str, Any] | bytes, int, str]] = {
    "not msgpack": (b"\xc1", 400, "invalid_msgpack"),
    "empty": (b"", 400, "invalid_msgpack"),
    "another type": (b"\x07", 400, "invalid_message"),
    "half a pose": (track(bytes(16 * 4 * 4 + 8)), 422, "shape_mismatch"),
    "no pose": (track(b""), 422, "too_short"),
    "text for bytes": (track("AAAA"), 400, "invalid_message"),
    "infinity": (track(np.full((1, 16, 4), np.inf, "<f4").tobytes()), 400, "invalid_number"),
    "confidence": (track(np.full((1, 16, 4), 1.5, "<f4").tobytes()), 422, "invalid_confidence"),
    "NaN in a list": (track([[[float("nan")] * 3] * 16]), 400, "invalid_number"),
    "NaN as time": (track(bytes(512)) | {"fps": None, "timestamps": [0.0, float("nan")]}, 400, "bad_timestamps"),
    "NaN as rate": (track(bytes(256)) | {"fps": float("nan")}, 400, "bad_timestamps"),
    "NaN as score": (track(bytes(256)) | {"options": {"min_score": float("nan")}}, 422, "invalid_input"),
    "NaN as gap": (track(bytes(256)) | {"options": {"gap_reset": float("nan")}}, 422, "invalid_input"),
    "endless scores": (
        track(bytes(256)) | {"options": {"return": ["scores"], "frame_scores_hz": float("inf")}},
        422,
        "invalid_input",
    ),
    "too many frames": (track(bytes(256 * 108_001)), 413, "too_many_frames"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_messagepack(server: ServerProcess, name: str) -> None:
    content, status, code = WRONG[name]
    data = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    answer = post(server, MSGPACK, "identity", data)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_missing_joint_is_a_nan(server: ServerProcess) -> None:
    """The packed recording says the same as the listed one in which joints are null."""
    poses = recording(5, 200)
    seen = poses.confidence.copy()
    seen[40:90, 7] = 0
    people = {"p1": PoseSequence(poses.joints, seen, poses.timestamps)}
    packed, listed = request_for(people, codec=MSGPACK), request_for(people)
    assert b"null" in JSON.encode(listed)
    assert same(localize(server.url, packed, MSGPACK), localize(server.url, listed))


def test_packed_keypoints_are_counted_by_their_layout() -> None:
    two = LocalizeRequest(tracks=[TrackSpec("p", bytes(17 * 4 * 4 * 2))], layout="coco17", fps=30.0)
    assert count_frames(two) == [2]


# --- compression -------------------------------------------------------------------------------------------------

BOMBS = {coding: COMPRESS[coding](bytes(8 * LIMIT)) for coding in ("gzip", "zstd")}


def decompressed(coding: str, body: bytes, limit: int = LIMIT) -> bytes:
    return BodyFormat(JSON, coding).decompress(body, limit)


@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_takes_no_more_than_is_allowed(coding: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PoselineError) as refused:
            decompressed(coding, BOMBS[coding])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "decompressed_too_large"
    assert peak < 1.6 * LIMIT  # a bytearray grows by an eighth more than it needs, and there are pieces


@pytest.mark.parametrize("coding", BOMBS)
def test_exactly_as_much_as_is_allowed(coding: str) -> None:
    assert decompressed(coding, COMPRESS[coding](bytes(LIMIT))) == bytes(LIMIT)
    with pytest.raises(PoselineError, match="more than"):
        decompressed(coding, COMPRESS[coding](bytes(LIMIT + 1)))


@pytest.mark.parametrize("coding", BOMBS)
@pytest.mark.parametrize(
    "broken",
    [
        lambda body: b"",
        lambda body: body[:-1],
        lambda body: body[: len(body) // 2],
        lambda body: body + b"x",
        lambda body: body + body,
        lambda body: b"x" + body,
    ],
    ids=["empty", "cut", "half", "more", "twice", "other"],
)
def test_what_is_not_one_whole_stream_is_refused(coding: str, broken: Any) -> None:
    body = broken(COMPRESS[coding](np.random.default_rng(0).bytes(5000)))
    with pytest.raises(MalformedMessage) as refused:
        decompressed(coding, body)
    assert refused.value.code == "invalid_encoding"


def test_a_zstd_body_may_not_ask_for_more_memory_than_is_usual() -> None:
    """A frame states the window that its reader must keep; 2 GiB would be had before a byte comes out."""
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    wide = zstd.ZstdCompressor(options=options)
    body = wide.compress(bytes(100), mode=wide.FLUSH_BLOCK) + wide.flush()
    assert zstd.get_frame_info(body).decompressed_size is None
    with pytest.raises(MalformedMessage, match="not zstd"):
        decompressed("zstd", body)
