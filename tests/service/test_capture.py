"""Capture of live sessions: only where both sides say so, poses only, bounded, whole files, and gone when it should be."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from made_up import NATIVE, recording, request_of
from poseline.client import StreamClient
from poseline.enrolment import Vocabulary
from poseline.errors import InputError
from poseline.formats.captures import CapturedSegment, read_capture
from poseline.formats.poses import read_poses
from poseline.protocol import SegmentFinal, StreamOptions, Warn
from poseline.remote import localize, play, timeline
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline_service.capturing import Captures, SessionCapture, Tap
from poseline_service.metrics import Metrics
from poseline_service.settings import ServiceSettings
from servers import ServerProcess

LENGTH = 1020
PERSON = "somebody-with-a-name"


async def streamed(server: ServerProcess, capture: bool, people: dict[str, Any]) -> tuple[StreamClient, list[Any]]:
    options = StreamOptions(capture=capture)
    async with StreamClient(server.ws, coordinates=NATIVE, options=options) as client:
        return client, [message async for message in play(client, timeline(people), chunk=30)]


async def appeared(folder: Path, files: int) -> list[Path]:
    """Files are written beside the stream, which does not wait for them."""
    async with asyncio.timeout(30):
        while len(found := sorted(folder.iterdir())) != files or any(one.suffix != ".npz" for one in found):
            await asyncio.sleep(0.02)
    return found


async def test_what_is_kept_of_a_session_that_asks_for_it(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    server = serve(capture=folder).ready()
    poses = recording(5, LENGTH)
    _, unasked = await streamed(server, False, {PERSON: poses})
    client, heard = await streamed(server, True, {PERSON: poses, "p2": recording(6, 90)})
    assert client.started.options["capture"] is True
    finals = [one for one in heard if isinstance(one, SegmentFinal) and one.track_id == PERSON]
    answer = await asyncio.to_thread(localize, server.url + "/v1/localize", request_of(5, LENGTH))
    key = lambda one: (one.label, one.start, one.end, one.score)  # noqa: E731
    assert sorted(map(key, finals)) == sorted(map(key, answer.segments))
    assert sum(isinstance(one, SegmentFinal) for one in unasked) == len(finals), "nobody hears that it is kept"
    files = await appeared(folder, 3)
    kept = sorted(map(read_capture, files), key=lambda one: (len(one.times) != 90, one.times[0]))[1:]
    assert [len(one.times) for one in kept] == [900, LENGTH - 900]
    seen = np.concatenate([one.poses for one in kept])
    assert np.abs(seen[..., :3] - poses.joints).max() < 1e-4
    assert (seen[..., 3] == 1).all()
    assert np.concatenate([one.times for one in kept]) == pytest.approx(poses.timestamps, abs=1e-9)
    assert all((np.diff(one.scores, axis=1) <= 0).all() and one.labels.max() <= 3 for one in kept)
    segments = [one for part in kept for one in part.segments if one.kind == "final"]
    assert sorted((one.label, round(one.start, 6)) for one in segments) == sorted((o.label, o.start) for o in finals)
    assert kept[0].model[0] == "tiny"
    assert kept[0].classes[1] == "wave"
    assert set(read_poses(files[0])) == {files[0].stem}
    # Nothing says who it was, and only the owner of the session can say where it is.
    session_id = client.started.session_id
    for path in files:
        assert path.stat().st_mode & 0o077 == 0
        raw = path.name.encode() + b"".join(np.asarray(one).tobytes() for one in np.load(path).values())
        for secret in (PERSON, session_id, session_id[4:]):
            assert secret.encode() not in raw
            assert secret.encode("utf-32-le") not in raw  # as numpy writes text
    url = f"{server.url}/v1/sessions/"
    assert (await asyncio.to_thread(httpx.delete, url + "ses_" + "0" * 32)).status_code == 404
    assert await appeared(folder, 3)
    assert (await asyncio.to_thread(httpx.delete, url + session_id)).status_code == 204
    assert await appeared(folder, 0) == []
    assert (await asyncio.to_thread(httpx.delete, url + session_id)).status_code == 404
    async with StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(capture=True)) as live:
        for i in range(0, LENGTH, 60):
            await live.send(timeline({"p1": poses})[i : i + 60])
        await appeared(folder, 1)
        assert (await asyncio.to_thread(httpx.delete, url + live.started.session_id)).status_code == 204
        assert list(folder.iterdir()) == [], "what it had and what it gathered"
    assert server.metrics()["poseline_capture_frames_total"] == 2 * LENGTH + 90
    assert "Traceback" not in await asyncio.to_thread(server.stop)


async def test_where_it_is_off_a_session_is_told_and_goes_on(server: ServerProcess) -> None:
    for wanted in (True, False):
        client, heard = await streamed(server, wanted, {"p1": recording(5, 60)})
        assert client.started.options["capture"] is False
        assert [one.code for one in heard if isinstance(one, Warn)] == ["capture_off"] * wanted
        assert heard[-1].frames_processed == 60


# --- without a server ------------------------------------------------------------------------------------------------


def opened(folder: Path, models: Path, **settings: Any) -> tuple[Captures, SessionCapture, Metrics]:
    from poseline.bundle import find_bundle

    bundle, metrics = find_bundle(models), Metrics()
    captures = Captures(folder, ServiceSettings(capture=folder, **settings), metrics)
    return captures, captures.of("ses_1", "somebody", Vocabulary(bundle.manifest), bundle.digest), metrics


def gather(tap: Tap, frames: range, late: int = 0) -> None:
    """Frames of a grid, each told of so many frames later, the last ones at the end."""
    for k in [*frames, *range(frames.stop, frames.stop + late)]:
        if k in frames:
            tap.pushed([GridFrame(k / 30, np.full((16, 4), k / 1000, np.float32), False)])
        if k - late in frames:
            tap.scored([((k - late) / 30, [(1, 0.75), (0, 0.25)], False)], [])


@pytest.mark.parametrize("late", [0, 9])
async def test_poses_and_scores_are_of_the_same_frames(tmp_path: Path, models: Path, late: int) -> None:
    captures, session, _ = opened(tmp_path, models)
    tap = session.tap(1)
    gather(tap, range(60), late)
    gather(tap, range(90, 150), late)  # after a gap
    tap.scored([], [SegmentEvent("final", 0, "wave", 1, 0.1, 0.9, 0.5, 1.0)])
    tap.scored([], [SegmentEvent("retracted", 1, "jump", 3, 3.0, 3.2, 0.5, 3.3)])
    tap.close()
    await captures.stop()
    before, after = sorted((read_capture(path) for path in tmp_path.iterdir()), key=lambda one: one.times[0])
    for one, frames in ((before, range(60)), (after, range(90, 150))):
        assert one.times == pytest.approx(np.array(frames) / 30)
        assert one.poses[:, 0, 0] == pytest.approx(np.array(frames) / 1000, abs=1e-5)
        assert one.labels.tolist() == [[1, 0]] * 60
    assert after.segments == (
        CapturedSegment("final", "wave", 0.1, 0.9, 0.5),
        CapturedSegment("retracted", "jump", 3.0, 3.2, 0.5),
    )


async def test_what_does_not_fit_is_dropped_and_counted(tmp_path: Path, models: Path) -> None:
    captures, session, metrics = opened(tmp_path, models, capture_buffer_bytes=100 * 500)
    count = lambda reason: metrics.capture_dropped.labels(reason)._value.get()  # noqa: E731
    tap = session.tap(1)
    gather(tap, range(300))
    assert 100 < count("memory") < 250, "and no stream has waited"
    tap.close()
    async with asyncio.timeout(30):
        while captures._waiting:
            await asyncio.sleep(0.01)
    (path,) = tmp_path.iterdir()
    assert len(read_capture(path).times) == 300 - count("memory")
    again = session.tap(2)
    gather(again, range(60))
    path.unlink()
    tmp_path.rmdir()  # the disk takes no more
    again.close()
    await captures.stop()
    assert count("disk") == 60
    with pytest.raises(InputError, match="POSELINE_CAPTURE"):
        Captures(Path("/dev/null/captures"), ServiceSettings(), Metrics())


async def test_the_oldest_go_first_and_nothing_stays_too_long(tmp_path: Path, models: Path) -> None:
    captures, session, _ = opened(tmp_path, models, capture_days=2)
    for n in range(6):
        tap = session.tap(n)
        gather(tap, range(60))
        tap.close()
    await captures.stop()
    files = sorted(tmp_path.iterdir())
    sizes = {path: path.stat().st_size for path in files}
    for age, path in enumerate(files):
        then = time.time() - age * 86_400 * 0.6
        os.utime(path, (then, then))
    (tmp_path / ".begun-by-a-killed-server.part").touch()
    os.utime(tmp_path / ".begun-by-a-killed-server.part", (0, 0))
    (tmp_path / ".begun-by-another.part").touch()
    (tmp_path / "notes.txt").touch()
    await swept(tmp_path, models, capture_days=2)
    assert [path for path in files if path.exists()] == files[:4]
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in files} == {
        ".begun-by-another.part",
        "notes.txt",
    }
    await swept(tmp_path, models, capture_bytes=sum(sizes[path] for path in files[:3]))
    assert [path for path in files if path.exists()] == files[:2]


async def swept(folder: Path, models: Path, **settings: Any) -> None:
    captures, _, metrics = opened(folder, models, **settings)
    captures.tick(1.0)
    await captures.stop()
    assert metrics.registry.get_sample_value("poseline_capture_bytes") == sum(
        path.stat().st_size for path in folder.glob("*.npz")
    )
