"""Poses of other kinds than the model's own through both doors: pictures, two dimensions, people half seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from made_up import NATIVE, recording
from poseline import protocol
from poseline.client import RemoteError, StreamClient
from poseline.codec import encode
from poseline.pose import Coordinates, PoseSequence
from poseline.protocol import CoordinatesSpec, LocalizeRequest, Notice, SegmentFinal, Warn
from poseline.remote import localize, play, request_for, timeline
from poseline.skeleton import BODY16
from servers import ServerProcess
from tiny_bundle import write_bundle

IMAGE = (1280, 720)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose model takes pictures too: the tiny network does not care."""
    folder = tmp_path_factory.mktemp("flat")
    manifest = write_bundle(folder, "flat").path / "manifest.json"
    takes = {"dims": [2, 3], "spaces": ["camera_m", "world_m", "pixel", "normalized"]}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | takes))
    process = ServerProcess(folder)
    try:
        yield process.ready()
    finally:
        process.stop()


def pictured(seed: int, coordinates: Coordinates, frames: int = 200) -> PoseSequence:
    """A made-up person as pixels of an image, or as shares of its sides."""
    native = recording(seed, frames)
    pixels = native.joints[..., : coordinates.dims] * np.float32(100)
    pixels[..., 1] *= -1
    pixels[..., 2:] *= -1
    pixels[..., :2] += [640, 360]
    if coordinates.space == "normalized":
        pixels /= np.array([IMAGE[0], IMAGE[1], IMAGE[0]], np.float32)[: coordinates.dims]
    return PoseSequence(pixels, native.confidence, native.timestamps, BODY16, coordinates)


def half_seen(frames: int, *, unseen: range, joint: str = "pelvis") -> PoseSequence:
    poses = recording(3, frames)
    poses.confidence[unseen.start : unseen.stop, BODY16.joints.index(joint)] = 0
    return poses


async def heard(server: ServerProcess, people: dict[str, PoseSequence]) -> list[protocol.ServerMessage]:
    request = request_for(people)
    async with StreamClient(server.ws, layout="body16", coordinates=request.coordinates) as client:
        return [message async for message in play(client, timeline(people), chunk=16)]


def warned(messages: list[protocol.ServerMessage]) -> list[tuple[str, str]]:
    return [(one.code, one.detail) for one in messages if isinstance(one, Warn)]


def answered(server: ServerProcess, request: LocalizeRequest) -> list[tuple[str, str]]:
    notices: list[Notice] = localize(server.url, request).warnings
    return [(one.code, one.detail) for one in notices]


@pytest.mark.parametrize("dims", [2, 3])
async def test_pixels_and_shares_lead_to_the_same_segments_at_both_doors(flat: ServerProcess, dims: int) -> None:
    sources = [
        pictured(5, Coordinates("pixel", dims, "down")),
        pictured(5, Coordinates("pixel", dims, "down", image_size=IMAGE)),
        pictured(5, Coordinates("normalized", dims, "down", image_size=IMAGE)),
    ]
    found: list[list[tuple[str, float, float]]] = []
    for source in sources:
        answer = localize(flat.url, request_for({"p1": source}))
        found.append([(one.label, one.start, one.end) for one in answer.segments])
        streamed = [one for one in await heard(flat, {"p1": source}) if isinstance(one, SegmentFinal)]
        assert sorted((one.label, one.start, one.end) for one in streamed) == sorted(found[-1])
    assert found[0] == found[1] == found[2] != []


async def test_a_missing_dimension_is_told_at_both_doors(flat: ServerProcess) -> None:
    source = {"p1": pictured(5, Coordinates("pixel", 2, "down"), 10)}
    told = [("two_dimensions", "depth is missing: expect lower accuracy, see the model card")]
    assert warned(await heard(flat, source)) == told
    assert answered(flat, request_for(source)) == told
    deep = {"p1": pictured(5, Coordinates("pixel", 3, "down"), 10)}
    assert warned(await heard(flat, deep)) == answered(flat, request_for(deep)) == []


@pytest.mark.parametrize("size", [None, [0, 720], [1280, 10**9]])
async def test_shares_need_the_size_of_their_image(flat: ServerProcess, size: Any) -> None:
    request = msgspec.structs.replace(
        request_for({"p1": pictured(5, Coordinates("normalized", 2, "down", image_size=IMAGE), 5)}),
        coordinates=CoordinatesSpec("normalized", 2, image_size=size),
    )
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(flat.url + "/v1/localize", content=encode(request), headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (422, "unit_unknown", "coordinates.image_size")
    with pytest.raises(RemoteError, match="image") as caught:
        await StreamClient(flat.ws, coordinates=CoordinatesSpec("normalized", 2, image_size=size)).__aenter__()
    assert (caught.value.code, caught.value.param) == ("unit_unknown", "coordinates.image_size")


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        (CoordinatesSpec("pixel", 3), "coordinates.space"),
        (CoordinatesSpec("normalized", 2, image_size=IMAGE), "coordinates.space"),
        (CoordinatesSpec("camera_m", 2), "coordinates.dims"),
    ],
)
async def test_a_model_of_metres_takes_no_picture(server: ServerProcess, spec: CoordinatesSpec, param: str) -> None:
    with pytest.raises(RemoteError, match="model tiny takes") as caught:
        await StreamClient(server.ws, coordinates=spec).__aenter__()
    assert (caught.value.code, caught.value.param) == ("unit_unknown", param)


# --- people half seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", ["pelvis", "neck"])
async def test_who_has_no_scale_is_named_once_at_both_doors(server: ServerProcess, joint: str) -> None:
    people = {"whole": recording(4, 150), "half": half_seen(150, unseen=range(150), joint=joint)}
    messages = await heard(server, people)
    ((code, detail),) = warned(messages)
    assert code == "no_scale"
    assert "track half: neck or pelvis" in detail
    (at,) = [one for one, message in enumerate(messages) if isinstance(message, Warn)]
    assert not any(isinstance(one, protocol.TrackEnded) for one in messages[:at]), "told while it matters"
    assert answered(server, request_for(people)) == [(code, detail)]


@pytest.mark.parametrize(("unseen", "told"), [(59, 0), (60, 0), (61, 1)])
async def test_a_torso_seen_within_two_seconds_is_in_time(server: ServerProcess, unseen: int, told: int) -> None:
    people = {"p1": half_seen(90, unseen=range(unseen))}
    assert len(warned(await heard(server, people))) == len(answered(server, request_for(people))) == told


async def test_a_torso_lost_later_has_left_its_measure(server: ServerProcess) -> None:
    people = {"p1": half_seen(150, unseen=range(1, 150))}
    assert warned(await heard(server, people)) == answered(server, request_for(people)) == []


async def test_each_time_somebody_comes_he_is_named_anew(server: ServerProcess) -> None:
    first, again = half_seen(75, unseen=range(75)), half_seen(75, unseen=range(75))
    frames = timeline({"p1": first})
    later = [protocol.Frame(frame.t + 10, frame.people) for frame in timeline({"p1": again})]
    async with StreamClient(server.ws, coordinates=NATIVE) as client:
        messages = [message async for message in play(client, [*frames, *later], chunk=16)]
    assert [code for code, _ in warned(messages)] == ["no_scale", "no_scale"]
