"""Classes from examples over the API: live in streams that run, kept beside the bundle, theirs who may."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from poseline.actor import Performance, perform
from poseline.bundle import find_bundle
from poseline.client import StreamClient
from poseline.codec import JSON, MSGPACK, Codec, encode
from poseline.enrolment import CAPACITY
from poseline.protocol import EnrolRequest, ExampleSpec, Flushed, Frame, SegmentFinal
from poseline.prototypes import folder_of, keep, read
from poseline.remote import request_for, timeline
from servers import PATIENCE, ServerProcess

PROJECT = Path(__file__).parents[2]
FIDGET = "scratch_head"
"""Which no class of the model means, and the actor does."""


def done(seed: int) -> Performance:
    """Somebody stands, does it, and stands."""
    return perform(seed, script=[FIDGET])


def example(seed: int, codec: Codec = JSON, **marks: float) -> ExampleSpec:
    played = done(seed)
    (segment,) = played.segments
    return ExampleSpec(
        recording=request_for({"p1": played.poses}, codec=codec),
        **({"start": segment.start, "end": segment.end} | marks),
    )


def body(name: str = "itch", seeds: tuple[int, ...] = (1, 2, 3)) -> bytes:
    return encode(EnrolRequest(name=name, examples=[example(seed) for seed in seeds]))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder of models of one's own: what is enrolled is written beside the bundle."""
    return shutil.copytree(PROJECT / "models", tmp_path / "models")


class Prototypes:
    def __init__(self, server: ServerProcess, key: str | None = None) -> None:
        self._url = f"{server.url}/v1/models/default/prototypes"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def _ask(self, method: str, path: str = "", **more: Any) -> httpx.Response:
        headers = self._headers | more.pop("headers", {})
        return httpx.request(method, self._url + path, headers=headers, timeout=PATIENCE, **more)

    def post(self, content: bytes, media: str = "application/json") -> httpx.Response:
        return self._ask("POST", content=content, headers={"Content-Type": media})

    def names(self) -> list[str]:
        return sorted(one["name"] for one in self._ask("GET").raise_for_status().json()["prototypes"])

    def delete(self, name: str) -> httpx.Response:
        return self._ask("DELETE", f"/{name}")


async def finals(client: StreamClient, performance: Performance, shift: float) -> list[SegmentFinal]:
    """What is decided of a performance, all of which has been scored."""
    frames = [Frame(one.t + shift, one.people) for one in timeline({"p1": performance.poses})]
    found: list[SegmentFinal] = []
    for begin in range(0, len(frames), 30):
        await client.send(frames[begin : begin + 30])
    await client.flush()
    while not isinstance(message := await client.receive(), Flushed):
        assert message is not None
        if isinstance(message, SegmentFinal) and message.label == "itch":
            found.append(message)
    return found


async def test_a_class_is_enrolled_while_a_stream_runs_and_found_in_it_until_it_is_removed(
    serve: Callable[..., ServerProcess], house: Path
) -> None:
    server = serve(house).ready()
    prototypes = Prototypes(server)
    played = done(9)
    (truth,) = played.segments
    seconds = played.poses.duration + 1
    async with StreamClient(server.ws, coordinates=played.poses.coordinates) as client:
        assert "itch" not in client.started.classes
        assert await finals(client, played, 0) == []
        answer = await asyncio.to_thread(prototypes.post, body())
        assert answer.status_code == 201, answer.text
        (found,) = await finals(client, played, seconds)
        assert (await asyncio.to_thread(prototypes.delete, "itch")).status_code == 204
        assert await finals(client, played, 2 * seconds) == []
    told = answer.json()
    assert (told["name"], told["label_id"], told["examples"]) == ("itch", found.label_id, 3)
    start, end = found.start - seconds, found.end - seconds
    assert min(end, truth.end) - max(start, truth.start) > 0.5 * (max(end, truth.end) - min(start, truth.start))


async def test_what_is_enrolled_is_kept_and_followed(serve: Callable[..., ServerProcess], house: Path) -> None:
    first, second = serve(house), serve(house)
    bundle = find_bundle(house)
    prototypes, others = Prototypes(first.ready()), Prototypes(second.ready())
    assert prototypes.names() == []
    assert prototypes.post(body("itch", (1,))).status_code == 201
    packed = MSGPACK.encode(EnrolRequest(name="Itch-2", examples=[example(2, MSGPACK)]))
    assert prototypes.post(packed, MSGPACK.media_type).status_code == 201
    await until(lambda: others.names() == ["Itch-2", "itch"])
    assert read(folder_of(bundle) / "itch.json").examples == 1
    assert "itch" in await asyncio.to_thread(localized_here, house)
    assert others.delete("itch").status_code == 204
    await until(lambda: prototypes.names() == ["Itch-2"])
    (folder_of(bundle) / "broken.json").write_text("{")
    again = serve(house).ready()
    assert Prototypes(again).names() == ["Itch-2"]
    again.stop()
    assert again.log is not None
    assert "enrolled_refused" in again.log
    asked = encode(request_for({"p1": done(9).poses}))
    answer = httpx.post(f"{first.url}/v1/localize", content=asked, headers={"Content-Type": "application/json"})
    found = {one["label"]: one["label_id"] for one in answer.json()["segments"]}
    assert found.get("Itch-2", 0) >= len(bundle.manifest.classes)


def localized_here(house: Path) -> set[str]:
    """Labels that the command line finds without any server."""
    recording = house / "recording.json"
    recording.write_bytes(encode(request_for({"p1": done(9).poses})))
    command = [sys.executable, "-m", "poseline_cli", "localize", recording, "--models", house, "--format", "json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    told = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=True).stdout
    return {one["label"] for one in json.loads(told)["segments"]}


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(what):
            await asyncio.sleep(0.2)


def test_what_is_refused_changes_nothing(serve: Callable[..., ServerProcess], house: Path) -> None:
    server = serve(house).ready()
    prototypes = Prototypes(server)
    two = request_for({"p1": done(1).poses, "p2": done(1).poses})

    def refused(content: bytes) -> tuple[int, str, Any]:
        answer = prototypes.post(content)
        return answer.status_code, answer.json()["code"], answer.json().get("param")

    def asked(name: str = "itch", *examples: ExampleSpec) -> bytes:
        return encode(EnrolRequest(name=name, examples=list(examples)))

    assert refused(b"{") == (400, "invalid_json", None)
    assert refused(asked("itch"))[::2] == (422, "examples")
    assert refused(asked("itch", *[example(1)] * 6))[::2] == (422, "examples")
    assert refused(asked("../itch", example(1))) == (400, "invalid_message", "name")
    assert refused(asked("walk", example(1)))[::2] == (422, "name")
    assert refused(asked("itch", ExampleSpec(recording=two)))[::2] == (422, "examples.0.recording.tracks")
    assert refused(asked("itch", example(1), example(1, start=3.0, end=2.0)))[::2] == (422, "examples.1")
    assert refused(asked("itch", example(1, end=900.0)))[::2] == (422, "examples.0")
    assert refused(asked("itch", example(1, start=1.0, end=1.1)))[::2] == (422, "examples.0")
    assert prototypes.delete("itch").json()["code"] == "unknown_class"
    assert prototypes.names() == []
    bundle = find_bundle(house)
    learnt = prototypes.post(body("itch", (1,)))
    assert learnt.status_code == 201
    one = read(folder_of(bundle) / "itch.json")
    for n in range(CAPACITY - 1):
        keep(folder_of(bundle), one.__class__(f"c{n}", one.model, one.weights, one.bias, 1, 1, one.created))
    deadline = monotonic() + PATIENCE
    while len(prototypes.names()) < CAPACITY:
        assert monotonic() < deadline
        sleep(0.1)
    assert refused(body("more", (1,))) == (409, "too_many_classes", None)
    assert prototypes.post(body("itch", (2,))).status_code == 201, "what there is may be replaced"


def test_a_model_without_a_bank_enrols_nothing(server: ServerProcess) -> None:
    answer = Prototypes(server).post(body())
    assert (answer.status_code, answer.json()["code"]) == (422, "enrolment_unavailable")
    assert Prototypes(server).names() == []


def test_it_takes_a_scope_of_its_own(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    from poseline_service.keys import StoredKey, new_key, write_keys
    from poseline_service.principals import SCOPES, USUAL

    assert set(SCOPES) - set(USUAL) == {"enroll"}
    keys = {}
    stored = []
    for name, scopes in (("usual", USUAL), ("teacher", ("enroll",))):
        keys[name], hashed = new_key(name)
        stored.append(StoredKey(name, hashed, list(scopes)))
    write_keys(tmp_path / "keys.json", stored)
    server = serve(keys=tmp_path / "keys.json").ready()
    assert Prototypes(server, keys["usual"]).post(body()).json()["code"] == "forbidden_scope"
    assert Prototypes(server, keys["teacher"]).post(body()).json()["code"] == "enrolment_unavailable"
    assert Prototypes(server, keys["teacher"]).names() == []
