"""`POST /v1/localize` and the other HTTP routes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from made_up import recording, request_of
from poseline.codec import decode_response, encode
from poseline.protocol import FoundSegment
from poseline.remote import request_for
from servers import ServerProcess

JSON = {"Content-Type": "application/json"}


def body(**changes: Any) -> dict[str, Any]:
    return json.loads(encode(request_of(3, 240))) | changes


def post(server: ServerProcess, content: Any, path: str = "/v1/localize", **headers: str) -> httpx.Response:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(server.url + path, content=data, headers=JSON | headers, timeout=60)


def segments(answer: httpx.Response) -> list[FoundSegment]:
    assert answer.status_code == 200, answer.text
    return decode_response(answer.content).segments


def test_answer_is_what_the_contract_says(server: ServerProcess) -> None:
    answer = decode_response(post(server, body(id="walk-1")).content)
    assert (answer.id, answer.fps_used) == ("walk-1", 30)
    assert answer.duration == pytest.approx(8.0, abs=1e-4)
    assert answer.model.layout == "body16"
    assert answer.segments
    assert [one.segment_id for one in answer.segments] == [f"s{n + 1}" for n in range(len(answer.segments))]
    assert answer.segments == sorted(answer.segments, key=lambda one: (one.start, one.track_id, one.label))
    for one in answer.segments:
        assert one.start_frame == pytest.approx(one.start * 30, abs=1e-3)
        assert one.end_frame == pytest.approx(one.end * 30, abs=1e-3)


def test_alias_and_gzip_give_the_same_answer(server: ServerProcess) -> None:
    plain = post(server, body())
    packed = post(server, gzip.compress(json.dumps(body()).encode()), "/localize", **{"Content-Encoding": "gzip"})
    assert segments(plain) == segments(packed)


def test_frames_are_the_clients_own(server: ServerProcess) -> None:
    wide = body(tracks=[body()["tracks"][0] | {"start_frame": 40}], fps=60.0)
    del wide["timestamps"]
    for one in segments(post(server, wide)):
        assert one.start == pytest.approx(one.start_frame / 60, abs=1 / 60)
        assert 40 <= one.start_frame < one.end_frame <= 280


def test_several_tracks_are_as_each_alone(server: ServerProcess) -> None:
    people = {f"p{i}": recording(i, 150) for i in range(5)}
    together = segments(post(server, encode(request_for(people))))
    for name, poses in people.items():
        alone = segments(post(server, encode(request_for({name: poses}))))
        mine = [one for one in together if one.track_id == name]
        assert [(one.label, one.start, one.end) for one in mine] == [(one.label, one.start, one.end) for one in alone]


def test_options(server: ServerProcess) -> None:
    few = segments(post(server, body(options={"max_segments": 2})))
    every = segments(post(server, body()))
    assert sorted(one.score for one in few) == sorted(one.score for one in every)[-2:]
    only = segments(post(server, body(options={"classes": ["jump"]})))
    assert {one.label for one in only} == {"jump"}
    for hz, count in ((10, 80), (12, 96)):
        options = {"return": ["scores"], "frame_scores_hz": hz}
        scored = decode_response(post(server, body(options=options)).content).scores
        assert isinstance(scored, list)
        assert len(scored[0].t) == len(scored[0].top) == count


KEYPOINTS = body()["tracks"][0]["keypoints"]


def with_keypoints(keypoints: Any) -> dict[str, Any]:
    return body(tracks=[{"track_id": "p1", "keypoints": keypoints}])


TEXT = json.dumps(body())
WRONG: dict[str, tuple[Any, int, str]] = {
    "not json": (b"{", 400, "invalid_json"),
    "empty": (b"", 400, "invalid_json"),
    "wrong type": (body(tracks=7), 400, "invalid_message"),
    "no tracks": (body(tracks=[]), 422, "too_short"),
    "no frames": (with_keypoints([]), 422, "too_short"),
    "NaN": (TEXT.replace("[[[", "[[[NaN,", 1).encode(), 400, "invalid_number"),
    "infinity": (with_keypoints([[[1e39, 0, 0]] * 16, *KEYPOINTS[1:]]), 400, "invalid_number"),
    "confidence": (with_keypoints([[[1, 0, 0, 1.01]] * 16, *KEYPOINTS[1:]]), 422, "invalid_confidence"),
    "joint count": (with_keypoints([*KEYPOINTS[:-1], KEYPOINTS[-1][:-1]]), 422, "shape_mismatch"),
    "ragged": (with_keypoints([[[0.0], *KEYPOINTS[0][1:]], *KEYPOINTS[1:]]), 422, "shape_mismatch"),
    "timestamps": (body(timestamps=[0.0] * 240), 400, "bad_timestamps"),
    "few timestamps": (body(timestamps=[0.0, 1.0]), 400, "bad_timestamps"),
    "far timestamps": (body(timestamps=[1e13 + n for n in range(240)]), 400, "bad_timestamps"),
    "far frame": (body(fps=1e-10, timestamps=None), 400, "bad_timestamps"),
    "nameless track": (body(tracks=[body()["tracks"][0] | {"track_id": ""}]), 400, "invalid_message"),
    "long id": (body(id="x" * 129), 400, "invalid_message"),
    "both clocks": (body(fps=30.0), 400, "invalid_message"),
    "layout": (body(layout="coco99"), 404, "unknown_layout"),
    "custom layout": (body(layout={"name": "custom", "joints": [f"x{i}" for i in range(16)]}), 422, "layout_mismatch"),
    "space": (body(coordinates={"space": "parsec"}), 422, "unit_unknown"),
    "pixels": (body(coordinates={"space": "pixel"}), 422, "unit_unknown"),
    "model": (body(model="gpt"), 404, "unknown_model"),
    "offline": (body(options={"mode": "offline"}), 422, "mode_unavailable"),
    "class": (body(options={"classes": ["fly"]}), 422, "invalid_input"),
    "threshold": (body(options={"min_score": 3}), 422, "invalid_input"),
    "tracks": (
        body(tracks=[{"track_id": str(i), "keypoints": KEYPOINTS[:1]} for i in range(33)]),
        413,
        "too_many_tracks",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_requests_are_problems(server: ServerProcess, name: str) -> None:
    content, status, code = WRONG[name]
    answer = post(server, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail", "instance", "request_id"}
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_ragged_frame_is_named(server: ServerProcess) -> None:
    detail = post(server, WRONG["joint count"][0]).json()["detail"]
    assert detail == "joint axis has 15 entries, layout body16 has 16 (track p1, frame 239)"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ({"Content-Encoding": "br"}, 415, "unsupported_encoding"),
        ({"Content-Encoding": "gzip"}, 400, "invalid_encoding"),
    ],
)
def test_media_and_encodings(server: ServerProcess, headers: dict[str, str], status: int, code: str) -> None:
    answer = post(server, body(), **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_limits_of_the_body(serve: Callable[..., ServerProcess]) -> None:
    server = serve(body_bytes=10_000, decompressed_bytes=50_000, max_frames=100).ready()
    assert post(server, b" " * 10_001).json()["code"] == "too_large"
    chunks = httpx.post(server.url + "/localize", content=iter([b" " * 6000] * 2), headers=JSON)
    assert chunks.status_code == 413
    bomb = gzip.compress(b" " * 50_001)
    answer = post(server, bomb, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (413, "decompressed_too_large")
    many = gzip.compress(json.dumps(with_keypoints([[]] * 101) | {"timestamps": list(range(101))}).encode())
    assert post(server, many, **{"Content-Encoding": "gzip"}).json()["code"] == "too_many_frames"


def test_discovery(server: ServerProcess) -> None:
    get = lambda path: httpx.get(server.url + path)  # noqa: E731
    (model,) = get("/v1/models").json()["models"]
    assert model == get("/v1/models/default").json() == get(f"/v1/models/{model['name']}").json()
    assert model["classes"][0] == "background"
    assert get("/v1/models/gpt").json()["code"] == "unknown_model"
    names = [one["name"] for one in get("/v1/layouts").json()["layouts"]]
    assert "body16" in names
    assert len(get("/v1/layouts/coco17").json()["joints"]) == 17
    likenesses = {name: get(f"/v1/layouts/{name}").json()["approximate"] for name in names}
    assert likenesses == {one["name"]: one["approximate"] for one in get("/v1/layouts").json()["layouts"]}
    assert (likenesses["body16"], likenesses["kinect_v2_25"], likenesses["coco17"]) == (False, False, True)
    assert get("/v1/layouts/coco99").status_code == 404
    assert get("/v1/nothing").json()["code"] == "not_found"
    assert get("/v1/localize").json()["code"] == "method_not_allowed"


def test_openapi_describes_the_wire(server: ServerProcess) -> None:
    document = httpx.get(server.url + "/openapi.json").json()
    assert "/v1/localize" in document["paths"]
    assert {"LocalizeRequest", "LocalizeResponse", "TrackSpec", "FoundSegment"} <= set(
        document["components"]["schemas"]
    )


def test_the_page_and_its_actor(server: ServerProcess) -> None:
    page = httpx.get(server.url + "/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'self'", "script-src 'self' 'wasm-unsafe-eval'"} <= set(policy)
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & set(" ".join(policy).split())
    assert page.headers["permissions-policy"] == "camera=(self)"
    actor = httpx.get(server.url + "/demo/actor.json?seed=1&seconds=5").json()
    assert (actor["layout"], len(actor["joints"])) == ("body16", 16)
    assert len(actor["frames"]) == pytest.approx(actor["fps"] * 5, abs=2)


@pytest.mark.parametrize(
    "wrong", ["seed=-1", "seed=4294967296", "seconds=0.001", "seconds=1e9", "seconds=nan", "seconds=soon"]
)
def test_the_actor_performs_within_bounds(server: ServerProcess, wrong: str) -> None:
    answer = httpx.get(f"{server.url}/demo/actor.json?{wrong}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["param"] == f"query.{wrong.partition('=')[0]}"


def test_few_frames_over_a_long_time_are_many_grid_frames(server: ServerProcess) -> None:
    """A thousand frames two seconds apart would be sixty thousand for the network."""
    pose = body()["tracks"][0]["keypoints"][0]
    sparse = body(
        tracks=[{"track_id": f"p{n}", "keypoints": [pose] * 1000} for n in range(2)],
        timestamps=[2.0 * n for n in range(1000)],
    )
    answer = post(server, sparse)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_many_frames"
    assert "the tracks last 3996 seconds in all, the limit is 3600" in answer.json()["detail"]


@pytest.mark.parametrize("start", [-1, 10**9 + 1, 10**12, 2**63])
def test_a_start_frame_out_of_this_world_is_refused_at_once(server: ServerProcess, start: int) -> None:
    """It names a time, it must not cost memory."""
    request = body(tracks=[body()["tracks"][0] | {"start_frame": start}], fps=30.0)
    del request["timestamps"]
    answer = post(server, request)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("bad_timestamps", "invalid_number", "invalid_message")


def test_a_late_track_costs_no_more_than_an_early_one(server: ServerProcess) -> None:
    request = body(tracks=[body()["tracks"][0] | {"start_frame": 10**8}], fps=30.0)
    del request["timestamps"]
    found = segments(post(server, request))
    assert all(one.start >= 10**8 / 30 - 1e-3 for one in found)
    assert all(one.start_frame >= 10**8 for one in found)
