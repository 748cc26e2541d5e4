"""`/v1/stream` over real sockets: the conversation, what it promises, and everything that clients get wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from made_up import NATIVE, frames_of, recording, request_of
from poseline import protocol
from poseline.client import RemoteError, StreamClient
from poseline.codec import CODECS, JSON, MSGPACK, Codec, encode
from poseline.protocol import CustomLayout, Frame, Frames, Person, SegmentFinal, SessionStart, StreamOptions
from poseline.remote import localize, play, timeline
from servers import ServerProcess


@asynccontextmanager
async def opened(server: ServerProcess, codec: Codec = MSGPACK, **options: Any) -> AsyncIterator[StreamClient]:
    async with StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(**options), codec=codec) as client:
        yield client


async def conversation(
    server: ServerProcess, frames: list[Frame], chunk: int = 64, codec: Codec = MSGPACK, **options: Any
) -> list[protocol.ServerMessage]:
    """All that the server says to a client that sends these frames and closes."""
    async with opened(server, codec, **options) as client:
        return [client.started, *[message async for message in play(client, frames, chunk=chunk)]]


def finals(messages: list[protocol.ServerMessage]) -> list[tuple[Any, ...]]:
    return [
        (one.track_id, one.label, one.start, one.end, one.score) for one in messages if isinstance(one, SegmentFinal)
    ]


# --- what it promises --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64])
async def test_any_chunking_gives_the_finals_of_localize(server: ServerProcess, chunk: int) -> None:
    heard = await conversation(server, frames_of(5, 600), chunk)
    answer = await asyncio.to_thread(localize, server.url + "/v1/localize", request_of(5, 600))
    expected = [(one.track_id, one.label, one.start, one.end, one.score) for one in answer.segments]
    assert len(expected) > 10
    assert sorted(finals(heard)) == sorted(expected)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_both_encodings_say_the_same(server: ServerProcess, codec: Codec, packed: bool) -> None:
    poses = {"p1": recording(5, 300)}
    plain = await conversation(server, timeline(poses), partials="all", scores_hz=30, codec=JSON)
    heard = await conversation(server, timeline(poses, packed=packed), partials="all", scores_hz=30, codec=codec)
    assert finals(heard) == finals(plain) != []
    pick = lambda messages: [(one.t, one.top[0]) for one in messages if isinstance(one, protocol.Scores)]  # noqa: E731
    assert len(pick(heard)) == 300
    for (t, (label, p)), (t_plain, (label_plain, p_plain)) in zip(pick(heard), pick(plain), strict=True):
        assert (t, label) == (t_plain, label_plain)
        assert p == pytest.approx(p_plain, abs=2e-4)


async def test_a_message_may_come_in_fragments(server: ServerProcess) -> None:
    frames = frames_of(5, 64)
    async with opened(server) as client:
        text = client.codec.encode(Frames(0, frames))
        await client._socket.send([text[:7], text[7:1000], text[1000:]])
        await client.close()
        heard = [message async for message in client]
    assert heard[-1].frames_received == 64  # type: ignore[union-attr]


async def test_numbering_has_no_gaps_and_finals_are_final(server: ServerProcess) -> None:
    heard = await conversation(server, frames_of(6, 600), partials="all", scores_hz=30)
    assert [message.seq for message in heard] == list(range(len(heard)))
    assert len({message.session_id for message in heard}) == 1
    life: dict[str, list[str]] = {}
    for message in heard:
        if isinstance(message, protocol.SegmentStarted | protocol.SegmentUpdated):
            life.setdefault(message.segment_id, []).append("open")
        elif isinstance(message, SegmentFinal | protocol.SegmentRetracted):
            life.setdefault(message.segment_id, []).append("over")
    assert life
    assert all(phases.count("over") == 1 and phases[-1] == "over" for phases in life.values())


async def test_totals(server: ServerProcess) -> None:
    heard = await conversation(server, frames_of(7, 301), chunk=10)
    last = heard[-1]
    assert isinstance(last, protocol.SessionClosed)
    assert (last.frames_received, last.frames_processed, last.frames_dropped) == (301, 301, 0)
    assert last.media_seconds == 10.0
    assert last.segments == len(finals(heard))
    acks = [one.client_seq for one in heard if isinstance(one, protocol.Ack)]
    assert acks[-1] == 300
    assert len(acks) >= 301 // 64


@pytest.mark.parametrize(("hz", "count"), [(0, 0), (5, 20), (12, 48), (20, 80), (25, 100), (30, 120), (1000, 120)])
async def test_scores_come_as_often_as_asked(server: ServerProcess, hz: float, count: int) -> None:
    heard = await conversation(server, frames_of(8, 120), scores_hz=hz)
    scores = [one for one in heard if isinstance(one, protocol.Scores)]
    assert len(scores) == count
    assert all(one.top == sorted(one.top, key=lambda pair: -pair[1]) for one in scores)


async def test_partials_none_tells_finals_only(server: ServerProcess) -> None:
    heard = await conversation(server, frames_of(9, 300), partials="none")
    kinds = {type(one) for one in heard if hasattr(one, "segment_id")}
    assert kinds == {SegmentFinal}
    assert finals(heard) == finals(await conversation(server, frames_of(9, 300), partials="changes"))


async def test_only_the_chosen_classes_are_decided(server: ServerProcess) -> None:
    heard = await conversation(server, frames_of(9, 300), classes=["jump"])
    assert {one[1] for one in finals(heard)} == {"jump"}


async def test_people_do_not_disturb_one_another(server: ServerProcess) -> None:
    alone = finals(await conversation(server, frames_of(1, 200)))
    crowd = {f"p{i}": recording(i, 200) for i in range(1, 7)}
    together = finals(await conversation(server, timeline(crowd)))
    mine = [one for one in together if one[0] == "p1"]
    assert [one[:4] for one in mine] == [one[:4] for one in alone]
    assert [one[4] for one in mine] == pytest.approx([one[4] for one in alone], abs=2e-4)


async def test_who_is_unseen_for_long_has_left(server: ServerProcess) -> None:
    empty = [Frame(3 + i / 10, []) for i in range(30)]
    back = frames_of(1, 60, start=8.0)
    heard = await conversation(server, [*frames_of(1, 90), *empty, *back])
    tracks = [one for one in heard if isinstance(one, protocol.TrackStarted | protocol.TrackEnded)]
    assert [type(one).__name__ for one in tracks] == ["TrackStarted", "TrackEnded", "TrackStarted", "TrackEnded"]
    assert [one.reason for one in tracks if isinstance(one, protocol.TrackEnded)] == ["absent", "close"]


async def test_flush_closes_open_segments_and_goes_on(server: ServerProcess) -> None:
    frames = frames_of(5, 300)
    async with opened(server) as client:
        await client.send(frames[:64])
        await client.send(frames[64:100])
        await client.flush()
        heard: list[protocol.ServerMessage] = []
        while not heard or not isinstance(heard[-1], protocol.Flushed):
            message = await client.receive()
            assert message is not None
            heard.append(message)
        opened_ids = {one.segment_id for one in heard if isinstance(one, protocol.SegmentStarted)}
        over = {one.segment_id for one in heard if isinstance(one, SegmentFinal | protocol.SegmentRetracted)}
        assert opened_ids
        assert opened_ids == over
        assert heard[-1].t == pytest.approx(frames[99].t, abs=1e-6)
        await client.send(frames[100:160])
        await client.close()
        rest = [message async for message in client]
    assert isinstance(rest[-1], protocol.SessionClosed)


async def test_flush_of_a_track_that_is_not_alive_changes_nothing(server: ServerProcess) -> None:
    """Its `track.ended` may be on the way while the client asks."""
    frames = frames_of(5, 300)
    async with opened(server) as client:
        for begin in range(0, 300, 60):
            await client.send(frames[begin : begin + 60])
            await client.flush("ghost")
        await client.close()
        heard = [message async for message in client]
    assert sum(isinstance(one, protocol.Flushed) for one in heard) == 5
    assert isinstance(heard[-1], protocol.SessionClosed)
    assert finals(heard) == finals(await conversation(server, frames))


async def test_late_and_duplicate_frames_are_dropped_with_one_warning_each(server: ServerProcess) -> None:
    frames = frames_of(5, 200)
    flood = [*frames[:50], *frames[:50], frames[49], frames[49], *frames[50:]]
    heard = await conversation(server, flood)
    assert finals(heard) == finals(await conversation(server, frames))
    warnings = [one for one in heard if isinstance(one, protocol.Warn)]
    counts = {code: sum(one.count or 0 for one in warnings if one.code == code) for code in {w.code for w in warnings}}
    assert counts == {"late_frame": 49, "duplicate_frame": 3}
    assert len(warnings) <= 6
    last = heard[-1]
    assert isinstance(last, protocol.SessionClosed)
    assert last.frames_dropped == 52


async def test_the_33rd_track_is_announced_and_ignored(server: ServerProcess) -> None:
    kp = frames_of(1, 1)[0].people[0].kp
    crowd = [Frame(t / 30, [Person(id=f"p{t}-{i}", kp=kp) for i in range(16)]) for t in range(3)]
    heard = await conversation(server, crowd, chunk=1)
    assert sum(isinstance(one, protocol.TrackStarted) for one in heard) == 32
    assert sum(one.count or 0 for one in heard if isinstance(one, protocol.Warn) and one.code == "track_limit") == 16


async def test_another_layout_is_converted_and_said_to_be(server: ServerProcess) -> None:
    kp = [[0.1 * i, 0.2, 0.3, 1.0] for i in range(17)]
    async with StreamClient(server.ws, layout="coco17") as client:
        conversion = client.started.layout_conversion
        assert (conversion.source, conversion.target, conversion.approximate) == ("coco17", "body16", True)
        heard = [message async for message in play(client, [Frame(0.0, [Person(id="a", kp=kp)])])]
    assert isinstance(heard[0], protocol.Warn)
    assert heard[0].code == "layout_approximate"


async def test_joints_that_nobody_knows_are_named_in_the_warning(server: ServerProcess) -> None:
    names = [
        "pelvis",
        "neck",
        "head",
        "LShouldr",
        *(f"{s} {j}" for s in "lr" for j in ("elbow", "wrist", "hip", "knee")),
    ]
    names += [f"horn{i}" for i in range(20)]
    async with StreamClient(server.ws, layout=CustomLayout(names)) as client:
        heard = [message async for message in play(client, [Frame(0.0, [])])]
    assert isinstance(heard[0], protocol.Warn)
    assert heard[0].detail.endswith("not known are left_shouldr, " + ", ".join(f"horn{i}" for i in range(7)) + ", …")


async def test_started_says_what_to_expect(server: ServerProcess) -> None:
    async with opened(server, min_score=0.5) as client:
        started = client.started
    assert started.classes[0] == "background"
    assert started.hop == pytest.approx(1 / 30)
    assert started.algorithmic_latency == 0
    assert started.limits["frames_per_message"] == 64
    assert started.options["min_score"] == 0.5
    assert started.model.digest.startswith("sha256:")


# --- what clients get wrong --------------------------------------------------------------------------------------

START = encode(SessionStart(layout="body16", coordinates=NATIVE)).decode()
KP = frames_of(1, 1)[0].people[0].kp


def one_frame(kp: Any, t: float = 0.0) -> str:
    return encode(Frames(0, [Frame(t, [Person(id="p1", kp=kp)])])).decode()


def start(**changes: Any) -> str:
    return json.dumps({"type": "session.start", "layout": "body16", "coordinates": {"space": "world_m"}} | changes)


WRONG: dict[str, tuple[list[str | bytes], str, int]] = {
    "malformed json": ([START, "{"], "invalid_json", 4400),
    "malformed first": (["nonsense"], "invalid_json", 4400),
    "wrong type": ([START, '{"type":"frames","seq":0,"frames":7}'], "invalid_message", 4400),
    "binary": ([START, b"\x00\x01"], "unsupported_data", 1003),
    "frames before start": ([one_frame(KP)], "out_of_order", 4400),
    "second start": ([START, START], "out_of_order", 4400),
    "base64": ([START, one_frame(b"").replace('""', '"%%%"')], "invalid_message", 4400),
    "NaN": ([START, one_frame(KP).replace("[[", "[[NaN,", 1)], "invalid_number", 4400),
    "infinity": ([START, one_frame([[1e39, 0.0, 0.0], *KP[1:]])], "invalid_number", 4400),
    "confidence": ([START, one_frame([[0.0, 0.0, 0.0, 2.0], *KP[1:]])], "invalid_confidence", 4422),
    "joint count": ([START, one_frame(KP[:-1])], "shape_mismatch", 4422),
    "ragged joint": ([START, one_frame([[0.0], *KP[1:]])], "shape_mismatch", 4422),
    "layout": ([start(layout="coco99")], "unknown_layout", 4422),
    "custom layout": ([start(layout={"name": "custom", "joints": ["nose"]})], "layout_mismatch", 4422),
    "space": ([start(coordinates={"space": "pixel", "dims": 2})], "unit_unknown", 4422),
    "dims": ([start(coordinates={"space": "world_m", "dims": 2})], "unit_unknown", 4422),
    "model": ([start(model="gpt")], "unknown_model", 4422),
    "class": ([start(options={"classes": ["fly"]})], "invalid_input", 4422),
    "option": ([start(options={"min_score": 7})], "invalid_input", 4422),
    "look-ahead": ([start(options={"look_ahead": 0.5})], "unsupported_option", 4422),
    "evidence": ([start(options={"evidence": -1})], "invalid_input", 4422),
    "huge seq": (
        [START, encode(Frames(2**53, [])).decode().replace(str(2**53), str(2**64 - 1))],
        "invalid_message",
        4400,
    ),
    "negative seq": ([START, '{"type":"frames","seq":-1,"frames":[]}'], "invalid_message", 4400),
    "nameless": ([START, one_frame(KP).replace('"p1"', '""')], "invalid_message", 4400),
    "long name": ([START, one_frame(KP).replace('"p1"', json.dumps("p" * 129))], "invalid_message", 4400),
    "far future": ([START, one_frame(KP, 1e13)], "bad_timestamps", 4400),
    "far past": ([START, one_frame(KP, -1e300)], "bad_timestamps", 4400),
    "fps": ([start(fps=0)], "invalid_input", 4422),
    "65 frames": ([START, encode(Frames(0, [Frame(i / 30, []) for i in range(65)])).decode()], "too_many_frames", 1009),
    "17 people": (
        [START, encode(Frames(0, [Frame(0.0, [Person(id=f"p{i}", kp=KP) for i in range(17)])])).decode()],
        "too_many_people",
        1009,
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_bad_input_ends_its_own_stream_and_no_other(server: ServerProcess, name: str) -> None:
    messages, code, close = WRONG[name]
    frames = frames_of(5, 180)
    async with opened(server) as bystander:
        await bystander.send(frames[:60])
        async with connect(server.ws) as socket:
            for message in messages:
                await socket.send(message)
            heard = await last_words(socket)
        assert heard[-1]["type"] == "error"
        assert (heard[-1]["code"], heard[-1]["fatal"]) == (code, True)
        assert [one["seq"] for one in heard] == list(range(len(heard)))
        assert socket.close_code == close
        await bystander.send(frames[60:120])
        await bystander.send(frames[120:])
        await bystander.close()
        undisturbed = [bystander.started, *[message async for message in bystander]]
    assert finals(undisturbed) == finals(await conversation(server, frames))


async def test_what_came_before_an_error_is_scored_and_finished(server: ServerProcess) -> None:
    frames = frames_of(5, 100)
    expected = await conversation(server, frames[:90])
    cut = [one for one in expected if isinstance(one, SegmentFinal) and one.forced == "close"]
    assert cut  # a segment is open where the bad frame comes
    bad = [*frames[:90], Frame(frames[90].t, [Person(id="p1", kp=KP[:-1])])]
    async with connect(server.ws) as socket:
        await socket.send(START)
        await socket.send(encode(Frames(0, bad[:60])).decode())
        await socket.send(encode(Frames(60, bad[60:])).decode())
        heard = await last_words(socket)
    assert socket.close_code == 4422
    assert [one["type"] for one in heard[-3:]] == ["track.ended", "ack", "error"]
    assert heard[-2]["client_seq"] == 89  # the bad frame was not accepted
    told = [(one["label"], one["start"], one["forced"]) for one in heard if one["type"] == "segment.final"]
    assert told == [(one.label, one.start, one.forced) for one in expected if isinstance(one, SegmentFinal)]
    over = {one["segment_id"] for one in heard if one["type"] in ("segment.final", "segment.retracted")}
    assert over == {one["segment_id"] for one in heard if one["type"] == "segment.started"}


async def test_text_in_a_binary_session_is_refused(server: ServerProcess) -> None:
    async with connect(server.ws, subprotocols=[MSGPACK.subprotocol]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == MSGPACK.subprotocol
        await socket.send(START)
        error = MSGPACK.decode_server(await socket.recv(decode=False))
        await socket.wait_closed()
    assert isinstance(error, protocol.ErrorMessage)
    assert (error.code, error.fatal, socket.close_code) == ("unsupported_data", True, 1003)


@pytest.mark.parametrize(
    ("kp", "code", "close"),
    [
        (b"\x00" * 255, "shape_mismatch", 4422),
        (b"\x00\x00\x80\x7f" * 64, "invalid_number", 4400),
        (b"\x00\x00\x00\x40" * 64, "invalid_confidence", 4422),
    ],
)
async def test_bad_packed_keypoints_end_their_own_stream(
    server: ServerProcess, kp: bytes, code: str, close: int
) -> None:
    good = frames_of(5, 1)[0]
    async with opened(server) as bystander, opened(server) as culprit:
        await bystander.send([good])
        await culprit.send([good, Frame(1 / 30, [Person(id="p1", kp=kp)]), Frame(2 / 30, [])])
        await culprit.close()
        with pytest.raises(RemoteError, match="frame 1") as caught:
            await drained(culprit)
        assert caught.value.code == code
        await culprit._socket.wait_closed()
        assert culprit._socket.close_code == close
        await bystander.close()
        assert isinstance([message async for message in bystander][-1], protocol.SessionClosed)


async def drained(client: StreamClient) -> None:
    async for message in client:
        assert not isinstance(message, protocol.Ack) or message.client_seq == 0


async def test_unknown_message_type_is_answered_and_survived(server: ServerProcess) -> None:
    async with connect(server.ws) as socket:
        await socket.send(START)
        await socket.send('{"type":"session.dance"}')
        await socket.send('{"type":"session.close","unknown":{"field":1}}')
        heard = [json.loads(data) async for data in socket]
    assert [one["type"] for one in heard] == ["session.started", "error", "session.closed"]
    assert (heard[1]["code"], heard[1]["fatal"]) == ("unknown_type", False)


async def test_a_message_over_the_limit_is_closed_by_the_stack(server: ServerProcess) -> None:
    async with connect(server.ws) as socket:
        await socket.send(START)
        await socket.send(" " * (256 * 1024 + 1))
        await last_words(socket)
    assert socket.close_code == 1009


async def test_refusals_before_the_upgrade(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws, subprotocols=["poseline.v9.cbor"])  # type: ignore[list-item]
    assert refused.value.response.status_code == 400
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.ws + "?model=gpt")
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["code"] == "unknown_model"


async def test_subprotocol_is_agreed_when_offered(server: ServerProcess) -> None:
    async with connect(server.ws, subprotocols=["other", JSON.subprotocol]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == JSON.subprotocol
    async with connect(server.ws) as socket:
        assert socket.subprotocol is None


async def test_the_client_raises_what_the_server_says(server: ServerProcess) -> None:
    with pytest.raises(RemoteError, match="coco99") as caught:
        await StreamClient(server.ws, layout="coco99").__aenter__()
    assert caught.value.code == "unknown_layout"


async def test_silence(serve: Callable[..., ServerProcess]) -> None:
    server = serve(start_seconds=0.05, idle_seconds=0.2).ready()
    async with connect(server.ws) as mute:
        assert [one["code"] for one in await last_words(mute)] == ["idle_timeout"]
        assert mute.close_code == 4408
    async with connect(server.ws) as idle:
        await idle.send(START)
        await idle.send(one_frame(KP))
        heard = await last_words(idle)
        assert idle.close_code == 4408
    assert [one["type"] for one in heard] == ["session.started", "track.started", "error"], "it can be resumed"
    assert heard[-1]["code"] == "idle_timeout"


async def last_words(socket: ClientConnection) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    try:
        while True:
            heard.append(json.loads(await socket.recv()))
    except ConnectionClosed:
        return heard
