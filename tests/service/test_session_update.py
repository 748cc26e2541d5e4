"""`session.update` over real sockets: options that change while a stream runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from made_up import NATIVE, frames_of
from poseline import protocol
from poseline.bundle import find_bundle
from poseline.client import StreamClient
from poseline.codec import CODECS, JSON, MSGPACK, Codec
from poseline.decoding import DecodingOptions
from poseline.enrolment import Vocabulary
from poseline.protocol import Frame, SegmentFinal, SegmentRetracted, SegmentStarted, SessionUpdated, StreamOptions
from poseline_service.options import SessionOptions
from servers import PATIENCE, ServerProcess

Change = dict[str, Any]


async def told(
    server: ServerProcess, script: list[list[Frame] | Change], chunk: int = 64, codec: Codec = MSGPACK, **options: Any
) -> list[protocol.ServerMessage]:
    """All that the server says to a client that sends these frames and updates, without waiting for any answer."""
    client = StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(**options), codec=codec)
    async with client:
        for step in script:
            if isinstance(step, dict):
                await client.update(**step)
                continue
            for begin in range(0, len(step), chunk):
                await client.send(step[begin : begin + chunk])
        await client.close()
        return [client.started, *[message async for message in client]]


def between(messages: list[protocol.ServerMessage]) -> list[list[protocol.ServerMessage]]:
    """The messages before the first `session.updated`, between it and the next, and so on."""
    parts: list[list[protocol.ServerMessage]] = [[]]
    for message in messages:
        if isinstance(message, SessionUpdated):
            parts.append([])
        else:
            parts[-1].append(message)
    return parts


def starts(messages: list[protocol.ServerMessage]) -> int:
    return sum(isinstance(one, SegmentStarted) for one in messages)


def begun(messages: list[protocol.ServerMessage]) -> list[tuple[str, float, int]]:
    """Label, start and the frame at which it was told, of every segment that began; scores are told of every frame."""
    found: list[tuple[str, float, int]] = []
    frame = 0
    for one in messages:
        frame += isinstance(one, protocol.Scores)
        if isinstance(one, SegmentStarted):
            found.append((one.label, one.start, frame))
    return found


def among(found: list[tuple[str, float, int]], frames: range) -> list[tuple[str, float, int]]:
    return [one for one in found if one[2] in frames]


def events(messages: list[protocol.ServerMessage]) -> list[tuple[Any, ...]]:
    of = (SegmentStarted, SegmentFinal, SegmentRetracted, SessionUpdated)
    names = ("segment_id", "label", "start", "end", "reason", "forced", "options")
    return [(type(one), *(getattr(one, name, None) for name in names)) for one in messages if isinstance(one, of)]


FRAMES = frames_of(5, 900)
PARTS = FRAMES[:300], FRAMES[300:600], FRAMES[600:]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_a_threshold_rises_and_falls_under_way(server: ServerProcess, codec: Codec) -> None:
    script = [PARTS[0], {"min_score": 1.0}, PARTS[1], {"min_score": None}, PARTS[2]]
    heard = await told(server, script, codec=codec, scores_hz=30)
    easy = begun(await told(server, [FRAMES], scores_hz=30))
    hard = begun(await told(server, [FRAMES], scores_hz=30, min_score=1.0))
    during, later = range(301, 601), range(620, 901)  # what began under the old threshold may stay for a while
    assert among(begun(heard), range(301)) == among(easy, range(301)) != []
    assert among(begun(heard), during) == among(hard, during) != []
    assert len(among(hard, during)) < len(among(easy, during)) / 2
    assert among(begun(heard), later) == among(easy, later) != []
    updated = [one.options["min_score"] for one in heard if isinstance(one, SessionUpdated)]
    assert isinstance(heard[0], protocol.SessionStarted)
    assert updated == [1.0, heard[0].options["min_score"]]
    opened = [one.segment_id for one in heard if isinstance(one, SegmentStarted)]
    over = [one.segment_id for one in heard if isinstance(one, SegmentFinal | SegmentRetracted)]
    assert sorted(opened) == sorted(over), "what was open when options changed ended all the same, once"


async def test_it_takes_effect_at_its_place_among_the_frames(server: ServerProcess) -> None:
    """However the frames are cut into messages, and however busy the engine is: an update does not overtake."""
    script = [PARTS[0], {"min_score": 0.9}, PARTS[1][:37], {"off_hang": 0.0, "max_duration": 0.5}, PARTS[1][37:]]
    whole, single = await told(server, script), await told(server, script, chunk=1)
    assert events(whole) == events(single)
    assert len(events(whole)) > 20


async def test_evidence_makes_starts_late_and_leaves_finals_alone(server: ServerProcess) -> None:
    """Asked for at the start, or for a while; whoever is told nothing of a start hears nothing of a retraction."""
    plain = await told(server, [FRAMES], scores_hz=30)
    patient = await told(server, [FRAMES], scores_hz=30, evidence=6.0)
    later = await told(server, [PARTS[0], {"evidence": 6.0}, PARTS[1], {"evidence": None}, PARTS[2]], scores_hz=30)
    finals = [one for one in events(plain) if one[0] is SegmentFinal]
    assert [one for one in events(patient) if one[0] is SegmentFinal] == finals
    assert [one for one in events(later) if one[0] is SegmentFinal] == finals
    at = {(label, start): frame for label, start, frame in begun(plain)}
    late = [frame - at[label, start] for label, start, frame in begun(patient)]
    assert min(late) >= 0
    assert max(late) > 0
    assert 0 < len(late) < len(at)
    lives: dict[str, list[type]] = {}
    for one in patient:
        if isinstance(one, protocol.OfSegment):
            lives.setdefault(one.segment_id, []).append(type(one))
    assert all(life == [SegmentFinal] or life[0] is SegmentStarted for life in lives.values())
    assert [SegmentFinal] in lives.values()
    assert among(begun(later), range(301)) == among(begun(plain), range(301))
    assert among(begun(later), range(602, 901)) == among(begun(plain), range(602, 901)) != []


async def test_no_class_no_start(server: ServerProcess) -> None:
    parts = between(await told(server, [PARTS[0], {"classes": []}, PARTS[1], {"classes": None}, PARTS[2]]))
    assert [starts(part) > 0 for part in parts] == [True, False, True]


async def test_tracks_to_come_follow_the_new_options(server: ServerProcess) -> None:
    newcomer = frames_of(6, 300, person="p2", start=FRAMES[-1].t + 1)
    heard = await told(server, [PARTS[0], {"classes": ["jump"]}, newcomer])
    _, later = between(heard)
    labels = {one.label for one in later if isinstance(one, SegmentFinal) and one.track_id == "p2"}
    assert labels == {"jump"}


async def test_scores_are_told_from_the_moment_they_are_wanted(server: ServerProcess) -> None:
    script = [
        PARTS[0],
        {"scores_hz": 30},
        PARTS[1],
        {"scores_hz": 5},
        PARTS[2],
        {"scores_hz": 0},
        frames_of(5, 30, start=30),
    ]
    parts = between(await told(server, script))
    assert [sum(isinstance(one, protocol.Scores) for one in part) for part in parts] == [0, 300, 50, 0]


@pytest.mark.parametrize(("first", "then"), [("changes", "none"), ("none", "all"), ("all", "changes")])
async def test_whose_start_was_told_his_end_is_told(server: ServerProcess, first: str, then: str) -> None:
    """No partial of a segment comes out of the blue, and none that was begun is left hanging."""
    cut = open_at(await told(server, [PARTS[0]], partials="changes"))
    heard = await told(server, [FRAMES[:cut], {"partials": then}, FRAMES[cut:]], partials=first)
    lives: dict[str, list[type]] = {}
    for one in heard:
        if isinstance(one, protocol.OfSegment):
            lives.setdefault(one.segment_id, []).append(type(one))
    assert len(lives) > 10
    for life in lives.values():
        assert life[-1] in (SegmentFinal, SegmentRetracted)
        assert life[0] is SegmentStarted or life == [SegmentFinal]
    assert (lives["g1.1"][0] is SegmentStarted) == (first != "none")
    before, after = between(heard)
    assert starts(before) > 0 if first != "none" else starts(before) == 0
    assert starts(after) > 0 if then != "none" else starts(after) == 0


def open_at(messages: list[protocol.ServerMessage]) -> int:
    """A frame of `FRAMES` at which some segment is open."""
    ends = {one.segment_id: one for one in messages if isinstance(one, SegmentFinal)}
    longest = max(ends.values(), key=lambda one: one.end - one.start)
    return round((longest.start + longest.end) / 2 * 30)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"min_score": 7.0}, "invalid_input", "options.min_score"),
        ({"min_score": 0.05}, "invalid_input", "options"),  # below off_score
        ({"scores_hz": -1.0}, "invalid_input", "options.scores_hz"),
        ({"classes": ["fly"]}, "invalid_input", "options.classes"),
        ({"min_score": "high"}, "invalid_message", "options.min_score"),
        ({"partials": "some"}, "invalid_message", "options.partials"),
        ({"classes": [7]}, "invalid_message", "options.classes[0]"),
        ({"gap_reset": 1.0}, "unsupported_option", "options.gap_reset"),
        ({"layout": "coco17"}, "unsupported_option", "options.layout"),
        ({"min_score": 0.9, "loudness": 11}, "unsupported_option", "options.loudness"),
    ],
)
async def test_a_bad_update_changes_nothing_and_ends_nothing(
    server: ServerProcess, change: Change, code: str, param: str
) -> None:
    heard = await told(server, [FRAMES[:100], change, FRAMES[100:300]])
    (error,) = [one for one in heard if isinstance(one, protocol.ErrorMessage)]
    assert (error.code, error.param, error.fatal) == (code, param, False)
    assert events(heard) == events(await told(server, [FRAMES[:300]]))
    assert isinstance(heard[-1], protocol.SessionClosed)


@pytest.mark.parametrize("said", [{}, {"options": None}, {"options": [1]}, {"options": "min_score"}])
async def test_an_update_without_options_ends_nothing(server: ServerProcess, said: Change) -> None:
    client = StreamClient(server.ws, coordinates=NATIVE, codec=JSON)
    async with client, asyncio.timeout(PATIENCE):
        await client._socket.send(json.dumps({"type": "session.update"} | said))
        error = await client.receive()
        assert isinstance(error, protocol.ErrorMessage)
        assert (error.code, error.param, error.fatal) == ("invalid_message", "options", False)
        await client.send(FRAMES[:60])
        await client.close()
        assert isinstance([message async for message in client][-1], protocol.SessionClosed)


def test_thresholds_of_single_classes_are_told_until_the_client_has_its_own(models: Path) -> None:
    manifest = find_bundle(models).manifest
    own = {"wave": {"min_score": 0.9, "off_score": 0.6}}
    decoding = DecodingOptions.model_validate(manifest.decoding.model_dump() | {"thresholds": own})
    options = SessionOptions(StreamOptions(), Vocabulary(manifest.model_copy(update={"decoding": decoding})))
    assert options.effective()["thresholds"] == own
    assert options.of_track.decoding.thresholds["wave"].min_score == 0.9
    changed = options.changed({"min_score": 0.7})
    assert "thresholds" not in changed.effective()
    assert changed.effective()["min_score"] == 0.7
    assert changed.changed({"min_score": None}).effective()["thresholds"] == own
