"""People without ids, and clocks that are set: over real sockets, by a real server."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossing import crossing
from cutting import Relay
from made_up import NATIVE, recording
from poseline import protocol
from poseline.blocking import SyncStreamClient
from poseline.client import RemoteError, StreamClient
from poseline.keypoints import pack_keypoints
from poseline.protocol import Frame, Person, StreamOptions
from poseline.remote import play
from poseline.resampling import TOLERANCE
from poseline_service.clock import MediaClock
from servers import ServerProcess

LENGTH = 420
_WHERE = {"p1": (0, 0), "p2": (10, 0), "p3": (-10, 0), "p4": (0, 12)}
_SEEN = {"p1": range(LENGTH), "p2": range(30, 200), "p3": range(60, LENGTH), "p4": range(250, LENGTH)}


def crowd() -> list[Frame]:
    """Four made-up people, each in a place of their own, who come one after another and stand in any order."""
    shuffle = random.Random(1).shuffle
    frames: list[Frame] = [Frame(i / 30, []) for i in range(LENGTH)]
    for seed, (name, (x, z)) in enumerate(_WHERE.items()):
        poses = recording(seed + 5, LENGTH)
        packed = pack_keypoints(poses.joints + np.array((x, 0, z), np.float32), poses.confidence)
        for i in _SEEN[name]:
            frames[i].people.append(Person(id=name, kp=packed[i]))
    for frame in frames:
        shuffle(frame.people)
    return frames


def nameless(frames: list[Frame]) -> list[Frame]:
    return [Frame(frame.t, [Person(kp=one.kp) for one in frame.people]) for frame in frames]


async def told(ws: str, frames: list[Frame], **settings: Any) -> list[Any]:
    async with StreamClient(ws, coordinates=NATIVE, **settings) as client:
        return [message async for message in play(client, frames, chunk=20)]


def of_people(messages: list[Any]) -> list[tuple[Any, ...]]:
    """What is said of people and their segments, as far as it must not depend on how frames come."""
    names = ("segment_id", "track_id", "label", "start", "end", "t", "reason")
    kinds = (protocol.SegmentFinal, protocol.TrackStarted, protocol.TrackEnded)
    found = [one for one in messages if isinstance(one, kinds)]
    return sorted((str(type(one)), *(str(getattr(one, name, None)) for name in names)) for one in found)


def order(messages: list[Any], frames: list[Frame]) -> list[list[str | None]]:
    """Who the people of each frame are, by the `tracks` messages alone."""
    changes = {one.client_seq: one.track_ids for one in messages if isinstance(one, protocol.Tracks)}
    names: list[str | None] = []
    found: list[list[str | None]] = []
    for number, frame in enumerate(frames):
        names = changes.get(number, names)
        found.append(names if frame.people else [])
    return found


def warnings(messages: list[Any]) -> dict[str, int]:
    codes = [(one.code, one.count or 1) for one in messages if isinstance(one, protocol.Warn)]
    return {code: sum(count for of, count in codes if of == code) for code, _ in codes}


async def test_without_ids_everything_is_as_with_them(server: ServerProcess) -> None:
    frames = crowd()
    expected = of_people(await told(server.ws, frames))
    assert len([one for one in expected if "SegmentFinal" in one[0]]) > 20
    heard = await told(server.ws, nameless(frames))
    assert of_people(heard) == expected
    assert order(heard, frames) == [[one.id for one in frame.people] for frame in frames]
    assert "one_place" not in warnings(heard)


async def test_who_is_who_outlives_a_broken_line(serve: Callable[..., ServerProcess]) -> None:
    frames = crowd()
    server = serve().ready()
    expected = of_people(await told(server.ws, frames))
    async with Relay(server.port, cut_after=[60_000, 50_000, 90_000]) as line:
        heard = await told(line.ws, nameless(frames))
    assert line.connections >= 4
    assert of_people(heard) == expected


async def test_actors_who_cross_each_others_path_stay_who_they_are(server: ServerProcess) -> None:
    seen = crossing(3, fps=30, view="world")
    frames = [
        Frame(t, [Person(kp=kp) for kp in pack_keypoints(poses[..., :3], poses[..., 3])])
        for t, _, poses in seen.frames()
    ]
    heard = await told(server.ws, frames)
    first = seen.frames()[0][1]
    assert order(heard, frames) == [[f"p{first.index(one) + 1}" for one in who] for _, who, _ in seen.frames()]
    assert sum(isinstance(one, protocol.TrackStarted) for one in heard) == 2


async def test_a_session_names_everybody_or_nobody(server: ServerProcess) -> None:
    frames = crowd()[:90]
    for first, second in ((frames, nameless(frames)), (nameless(frames), frames)):
        with pytest.raises(RemoteError) as caught:
            await told(server.ws, [*first[:60], *second[60:]])
        assert (caught.value.code, caught.value.param) == ("invalid_message", "id")


async def test_people_in_one_place_are_warned_of(server: ServerProcess) -> None:
    one = recording(5, 30)
    centred = pack_keypoints(one.joints - one.joints[:, 3:4], one.confidence)
    heard = await told(server.ws, [Frame(i / 30, [Person(kp=kp), Person(kp=kp)]) for i, kp in enumerate(centred)])
    assert warnings(heard)["one_place"] == 30


async def test_the_33rd_person_without_id_is_announced_and_ignored(server: ServerProcess) -> None:
    kp = recording(5, 1).joints
    places = [pack_keypoints(kp + np.float32(10 * i), np.ones((1, 16), np.float32))[0] for i in range(48)]
    rows = [places[:16], places[16:32], places[32:], places[32:]]
    frames = [Frame(i / 30, [Person(kp=one) for one in row]) for i, row in enumerate(rows)]
    heard = await told(server.ws, frames)
    assert sum(isinstance(one, protocol.TrackStarted) for one in heard) == 32
    assert warnings(heard)["track_limit"] == 32
    assert order(heard, frames)[2:] == [[None] * 16] * 2


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
async def test_a_clock_that_was_set_back_begins_anew(server: ServerProcess, named: bool) -> None:
    """Every frame after the jump is scored as if a stream began with it, on the new clock."""
    ahead = [Frame(1000 + frame.t, frame.people) for frame in crowd()[:150]]
    again = crowd()[100:LENGTH]
    heard = await told(server.ws, [*ahead, *again] if named else nameless([*ahead, *again]))
    assert {code: n for code, n in warnings(heard).items() if n} == {"late_frame": 2, "clock_jump": 1}
    left = [one for one in heard if isinstance(one, protocol.TrackEnded) and one.reason == "clock_jump"]
    assert sorted(one.track_id for one in left) == ["p1", "p2", "p3"]
    assert [one.t for one in left] == pytest.approx([1000 + 149 / 30] * 3)
    after = heard[heard.index(left[-1]) + 1 :]
    alone = await told(server.ws, again[2:])

    def segments(messages: list[Any]) -> list[tuple[Any, ...]]:
        return sorted((one.label, one.start, one.end) for one in messages if isinstance(one, protocol.SegmentFinal))

    assert segments(after) == segments(alone)
    assert len(segments(alone)) > 15
    closed = heard[-1]
    assert isinstance(closed, protocol.SessionClosed)
    assert closed.media_seconds == pytest.approx((149 + LENGTH - 103) / 30, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-60, 60).map(lambda tenths: tenths / 10) | st.floats(-6, 6), min_size=1, max_size=60))
def test_whatever_the_times_are_results_rise_on_the_clients_clock(server: ServerProcess, times: list[float]) -> None:
    (person,) = crowd()[0].people
    clock = MediaClock(2.0)
    verdicts = [clock.take(t) for t in times]
    with SyncStreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(scores_hz=30)) as stream:
        for begin in range(0, len(times), 7):
            stream.send([Frame(t, [person]) for t in times[begin : begin + 7]])
        stream.close()
        heard: list[Any] = list(stream)
    counted = warnings(heard)
    for code in ("late_frame", "duplicate_frame", "clock_jump"):
        assert counted.get(code, 0) == sum(verdict == code for verdict in verdicts)
    assert heard[-1].frames_dropped == sum(verdict in ("late_frame", "duplicate_frame") for verdict in verdicts)
    accepted = [t for t, verdict in zip(times, verdicts, strict=True) if verdict in (None, "clock_jump")]
    begun = [one.t for one in heard if isinstance(one, protocol.TrackStarted)]
    gaps = [after for before, after in pairwise(accepted) if after < before or after - before > 2.0]
    assert begun == [accepted[0], *gaps]
    newest, scored = -inf, 0
    for one in heard:
        if isinstance(one, protocol.TrackStarted):
            newest = -inf
        if isinstance(one, protocol.Scores):
            assert newest < one.t <= max(accepted) + TOLERANCE
            newest, scored = one.t, scored + 1
    assert scored >= len(begun)


async def test_a_rate_that_is_not_what_was_said_is_told_of(server: ServerProcess) -> None:
    frames = crowd()[:90]
    assert "fps_mismatch" in warnings(await told(server.ws, frames, fps=60))
    assert "fps_mismatch" not in warnings(await told(server.ws, frames, fps=25))
