"""Classes from examples over the API: live in streams that run, kept beside the bundle, theirs who may."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace as replace_poses
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pytest
from msgspec.structs import replace

from made_up import recording
from poseline.actor import Performance, perform
from poseline.bundle import find_bundle
from poseline.client import StreamClient
from poseline.codec import JSON, MSGPACK, Codec, encode
from poseline.enrolment import CAPACITY, Vocabulary
from poseline.errors import Overloaded, PoselineError
from poseline.protocol import (
    EnrolRequest,
    ExampleSpec,
    Flushed,
    Frame,
    LocalizeOptions,
    SegmentFinal,
    StreamOptions,
)
from poseline.prototypes import Shown, folder_of, keep, read
from poseline.remote import RemoteClasses, localize, request_for, timeline
from poseline.resampling import GridFrame
from poseline.skeleton import BODY16
from poseline_service.enrolling import Enroller
from poseline_service.errors import NotRemembered
from poseline_service.keys import StoredKey, new_key, write_keys
from poseline_service.principals import SCOPES, USUAL
from poseline_service.remembering import Remembrance
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
    return shutil.copytree(PROJECT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("enrolled"))


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


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": roots, "NO_COLOR": "1", "COLUMNS": "120"}
    line = [sys.executable, "-m", "poseline_cli", *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def recorded(folder: Path, seed: int, *, twice: bool = False) -> Path:
    """A performance as a file; twice: as two people's."""
    path = folder / f"{seed}.json"
    poses = done(seed).poses
    path.write_bytes(encode(request_for({"p1": poses} | ({"p2": poses} if twice else {}))))
    return path


def localized_here(house: Path, *more: str) -> set[str]:
    """Labels that the command line finds without any server."""
    told = command("localize", recorded(house.parent, 9), "--models", house, "--format", "json", *more)
    return {one["label"] for one in json.loads(told.stdout)["segments"]}


# --- poseline enroll ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote", [False, True])
def test_the_command_enrolls_lists_and_removes(
    serve: Callable[..., ServerProcess], house: Path, tmp_path: Path, remote: bool
) -> None:
    where = ["--url", serve(house).ready().url] if remote else ["--models", str(house)]
    marked: list[str] = []
    for seed in (1, 2, 3):
        (truth,) = done(seed).segments
        marked.append(f"{recorded(tmp_path, seed)}@{truth.start:.2f}-{truth.end:.2f}")
    made = command("enroll", "itch", *marked, *where)
    assert made.returncode == 0, made.stderr
    assert "itch" in made.stdout
    assert "itch" in localized_here(house)
    assert read(folder_of(find_bundle(house)) / "itch.json").examples == 3
    assert "itch" in command("enroll", *where).stdout
    assert command("enroll", "itch", "--remove", *where).returncode == 0
    assert "itch" not in command("enroll", *where).stdout
    again = command("enroll", "itch", "--remove", *where)
    assert (again.returncode, again.stderr.split(":")[0]) == (1, "unknown_class" if remote else "invalid_input")


def test_what_the_command_cannot_use_it_says(house: Path, tmp_path: Path) -> None:
    one, two = recorded(tmp_path, 1), recorded(tmp_path, 2, twice=True)

    def said(*words: str | Path) -> str:
        done = command("enroll", *words, "--models", house)
        assert done.returncode == 1, done.stdout
        return done.stderr.replace("\n", " ")

    assert "0 examples are named, expected 1 to 5" in said("itch")
    assert "6 examples are named" in said("itch", *[one] * 6)
    assert "none.json" in said("itch", tmp_path / "none.json@1-2")
    assert "shows p1, p2: one is to be named (--person)" in said("itch", two)
    assert "shows p1, p2: not p3" in said("itch", two, "--person", "p3")
    assert "marked from 900 to 901 s" in said("itch", f"{one}@900-901")
    assert "live sessions are a server's: say --url" in said("itch", "session:s_1/p1@1-2")
    assert "is no name for a class" in said("it ch", one)
    assert "one of the model's own classes" in said("walk", one)
    assert "takes its name alone" in said("itch", one, "--remove")
    assert command("enroll", "itch", two, "--person", "p2", "--models", house).returncode == 0


# --- stretches of live sessions ---------------------------------------------------------------------------------------


async def shown_live(client: StreamClient, played: Performance) -> None:
    """A performance, all of which has been scored."""
    await finals(client, played, 0)


def live_example(client: StreamClient, start: float, end: float, track: str = "p1") -> ExampleSpec:
    return ExampleSpec(session_id=client.started.session_id, track_id=track, start=start, end=end)


async def test_a_stretch_of_a_live_session_is_an_example(serve: Callable[..., ServerProcess], house: Path) -> None:
    server = serve(house).ready()
    played = done(1)
    (truth,) = played.segments
    options = StreamOptions(remember=60)
    async with StreamClient(server.ws, coordinates=played.poses.coordinates, options=options) as client:
        assert client.started.options["remember"] == 60
        await shown_live(client, played)
        live = RemoteClasses(server.url)
        told = await asyncio.to_thread(live.enroll, "itch", [live_example(client, truth.start, truth.end)])
        assert told.examples == 1
        assert await finals(client, done(9), played.poses.duration + 1)
        as_recording = await asyncio.to_thread(live.enroll, "same", [Shown(played.poses, truth.start, truth.end)])
    assert as_recording.frames == told.frames
    one, same = (read(folder_of(find_bundle(house)) / f"{name}.json") for name in ("itch", "same"))
    assert np.corrcoef(one.weights, same.weights)[0, 1] > 0.999
    await asyncio.to_thread(live.remove, "same")
    assert [one.name for one in await asyncio.to_thread(live.listed)] == ["itch"]


async def test_what_is_not_remembered_is_no_example(serve: Callable[..., ServerProcess], house: Path) -> None:
    server = serve(house).ready()
    played = done(1)
    live = RemoteClasses(server.url)

    async def refused(*examples: ExampleSpec) -> str:
        with pytest.raises(PoselineError) as told:
            await asyncio.to_thread(live.enroll, "itch", examples)
        return told.value.code

    async with StreamClient(server.ws, coordinates=played.poses.coordinates) as client:
        await shown_live(client, played)
        assert await refused(live_example(client, 1, 2)) == "not_remembered"
        await client.update(remember=2.0)
        await finals(client, played, played.poses.duration + 1)
        end = 2 * played.poses.duration + 1
        assert await refused(live_example(client, end - 3, end - 2.5)) == "not_remembered"
        assert await refused(live_example(client, end - 1, end + 9)) == "not_remembered"
        assert await refused(live_example(client, end - 1, end, "p2")) == "not_remembered"
        assert await refused(ExampleSpec(session_id="s_none", track_id="p1", start=1, end=2)) == "unknown_session"
        assert await refused(ExampleSpec(session_id=client.started.session_id, track_id="p1")) == "invalid_message"
        assert await refused(ExampleSpec()) == "invalid_message"
        both = replace(live_example(client, end - 1, end), recording=example(1, MSGPACK).recording)
        assert await refused(both) == "invalid_message"
        assert (await asyncio.to_thread(live.enroll, "itch", [live_example(client, end - 1, end)])).examples == 1
        session_id = client.started.session_id
    assert await refused(ExampleSpec(session_id=session_id, track_id="p1", start=end - 1, end=end)) == "unknown_session"
    with pytest.raises(PoselineError) as told:
        async with StreamClient(server.ws, coordinates=played.poses.coordinates, options=StreamOptions(remember=121)):
            pass
    assert (told.value.code, told.value.param) == ("invalid_input", "options.remember")


def test_memories_have_a_bound_in_common() -> None:
    frame = GridFrame(0.0, np.zeros((16, 4), np.float32), False)
    frames = [replace(frame, t=n / 30) for n in range(300)]
    all_ = Remembrance(100_000)
    one, other = (all_.of_track(30.0, BODY16) for _ in range(2))
    one.keep(5)
    one.pushed(frames)
    assert one.poses().timestamps.tolist() == [n / 30 for n in range(150, 300)]
    other.keep(120)
    other.pushed(frames)
    assert 0 <= all_.room < 1000
    assert len(one.poses()) == 150
    kept = other.poses().timestamps.tolist()
    assert kept == [n / 30 for n in range(300 - len(kept), 300)], "the newest, of its own"
    other.pushed([replace(frame, t=60.0, first=True)])
    assert other.poses().timestamps.tolist() == [60.0], "what was before a gap says nothing"
    one.clear()
    other.keep(0)
    assert all_.room == 100_000
    with pytest.raises(NotRemembered):
        one.poses()


def test_mode_offline_knows_enrolled_classes(serve: Callable[..., ServerProcess], house: Path) -> None:
    server = serve(house).ready()
    assert Prototypes(server).post(body()).status_code == 201
    played = done(9)
    (truth,) = played.segments
    whole = LocalizeOptions(mode="offline", returns=["segments", "scores"], frame_scores_hz=30)
    told = localize(server.url, request_for({"p1": played.poses}, whole))
    (found,) = [one for one in told.segments if one.label == "itch"]
    assert abs(found.start - truth.start) < 0.5
    assert abs(found.end - truth.end) < 0.5
    here = localized_here(house, "--mode", "offline")
    assert here == {one.label for one in told.segments}


async def test_no_more_wait_than_the_server_can_hold(house: Path) -> None:
    bundle = find_bundle(house)
    enroller, shown = Enroller(bundle, Vocabulary(bundle.manifest)), [Shown(done(1).poses)]
    waiting = [asyncio.create_task(enroller.enrol(f"c{n}", shown)) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await enroller.enrol("c4", shown)
    assert len(await asyncio.gather(*waiting)) == 4
    assert (await enroller.enrol("c4", shown)).name == "c4"


async def test_what_others_write_meanwhile_is_not_lost(
    serve: Callable[..., ServerProcess], house: Path, tmp_path: Path
) -> None:
    server = serve(house).ready()
    prototypes, folder = Prototypes(server), folder_of(find_bundle(house))
    assert prototypes.post(body("itch", (1,))).status_code == 201
    one = read(folder / "itch.json")
    keep(folder, replace(one, name="theirs"))
    assert prototypes.delete("itch").status_code == 204
    await until(lambda: prototypes.names() == ["theirs"])
    for n in range(CAPACITY):
        keep(folder, replace(one, name=f"c{n}"))
    await until(lambda: len(prototypes.names()) == CAPACITY)
    await asyncio.sleep(3)  # it has looked at what there is no room for
    assert prototypes.delete("theirs" if "theirs" in prototypes.names() else "c0").status_code == 204
    await until(lambda: len(prototypes.names()) == CAPACITY)


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
    slow = recording(0, 2000, fps=0.55)  # an hour, of which the grid would make 100 000 frames
    assert refused(asked("itch", ExampleSpec(recording=request_for({"p1": slow}))))[::2] == (422, "examples.0")
    hidden = replace_poses(done(1).poses, confidence=np.zeros_like(done(1).poses.confidence))
    assert refused(asked("itch", ExampleSpec(recording=request_for({"p1": hidden}))))[::2] == (422, "examples.0")
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


def stored(folder: Path, **scopes: tuple[str, ...]) -> dict[str, str]:
    """A file of keys, and the keys in it, by their names."""
    made = {name: new_key(name) for name in scopes}
    write_keys(folder / "keys.json", [StoredKey(name, made[name][1], list(some)) for name, some in scopes.items()])
    return {name: key for name, (key, _) in made.items()}


def test_it_takes_a_scope_of_its_own(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    assert set(SCOPES) - set(USUAL) == {"enroll"}
    keys = stored(tmp_path, usual=USUAL, teacher=("enroll",))
    server = serve(keys=tmp_path / "keys.json").ready()
    assert Prototypes(server, keys["usual"]).post(body()).json()["code"] == "forbidden_scope"
    assert Prototypes(server, keys["teacher"]).post(body()).json()["code"] == "enrolment_unavailable"
    assert Prototypes(server, keys["teacher"]).names() == []


async def test_a_stretch_is_its_owners_alone_to_show(
    serve: Callable[..., ServerProcess], house: Path, tmp_path: Path
) -> None:
    keys = stored(tmp_path, owner=SCOPES, other=SCOPES)
    server = serve(house, keys=tmp_path / "keys.json").ready()
    played = done(1)
    (truth,) = played.segments
    options = StreamOptions(remember=60)
    async with StreamClient(
        server.ws, coordinates=played.poses.coordinates, options=options, credential=keys["owner"]
    ) as client:
        await shown_live(client, played)
        stretch = live_example(client, truth.start, truth.end)
        with pytest.raises(PoselineError) as told:
            await asyncio.to_thread(RemoteClasses(server.url, key=keys["other"]).enroll, "itch", [stretch])
        assert told.value.code == "unknown_session"
        await asyncio.to_thread(RemoteClasses(server.url, key=keys["owner"]).enroll, "itch", [stretch])
