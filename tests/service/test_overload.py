"""`on_overload` over real sockets: frames that come faster than the engine takes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from made_up import NATIVE, frames_of
from poseline import protocol
from poseline.client import StreamClient
from poseline.codec import MSGPACK
from poseline.protocol import Ack, Frames, SegmentFinal, SessionStart, StreamOptions
from poseline.remote import play
from poseline_service.overload import BURST_SECONDS, TokenBucket
from servers import ServerProcess

Serve = Callable[..., ServerProcess]
FRAMES = frames_of(5, 900)


async def told(
    server: ServerProcess, chunk: int = 64, speed: float | None = None, frames: Any = FRAMES, **options: Any
) -> tuple[StreamClient, list[Any]]:
    async with StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(**options)) as client:
        return client, [one async for one in play(client, frames, chunk=chunk, speed=speed)]


def finals(heard: list[Any]) -> list[tuple[Any, ...]]:
    names = ("segment_id", "label", "start", "end", "score", "forced")
    return [tuple(getattr(one, name) for name in names) for one in heard if isinstance(one, SegmentFinal)]


def warned(heard: list[Any], code: str) -> int:
    counts = [one.count for one in heard if isinstance(one, protocol.Warn) and one.code == code]
    return sum(count for count in counts if isinstance(count, int))


async def test_what_overflows_is_dropped_and_told_to_the_last_frame(serve: Serve) -> None:
    server = serve(queue_frames=32).ready()
    _, heard = await told(server, on_overload="drop_oldest", scores_hz=30)
    closed, acks = heard[-1], [one for one in heard if isinstance(one, Ack)]
    assert isinstance(closed, protocol.SessionClosed)
    assert closed.frames_received == closed.frames_processed + closed.frames_dropped == len(FRAMES)
    assert closed.frames_dropped > len(FRAMES) / 4, "64 frames at a time are more than 16 and 16"
    assert (acks[-1].client_seq, acks[-1].dropped) == (len(FRAMES) - 1, closed.frames_dropped)
    assert warned(heard, "frames_dropped") == closed.frames_dropped
    assert server.metrics()['poseline_frames_dropped_total{reason="overload"}'] == closed.frames_dropped
    times = [one.t for one in heard if isinstance(one, protocol.Scores)]
    assert times[-1] == pytest.approx(FRAMES[-1].t), "what came last is scored"
    assert all(later > earlier for earlier, later in pairwise(times))


async def test_nothing_is_dropped_and_nobody_fails_as_long_as_there_is_room(server: ServerProcess) -> None:
    few = FRAMES[:200]
    _, expected = await told(server, frames=few)
    for policy in ("drop_oldest", "fail"):
        client, heard = await told(server, frames=few, chunk=10, speed=10.0, on_overload=policy)
        assert finals(heard) == finals(expected) != []
        assert (heard[-1].frames_received, heard[-1].frames_dropped, client.resumes) == (len(few), 0, 0)


async def test_a_recording_at_full_speed_is_neither_dropped_nor_closed_by_default(serve: Serve) -> None:
    client, heard = await told(serve(queue_frames=8, frames_per_second=1).ready())
    assert (heard[-1].frames_received, heard[-1].frames_dropped, client.resumes) == (len(FRAMES), 0, 0)


@pytest.mark.parametrize("limits", [{"queue_frames": 8}, {"frames_per_second": 60}], ids=["queue", "rate"])
async def test_who_fails_for_speed_comes_back_and_loses_nothing(
    limits: dict[str, float], serve: Serve, server: ServerProcess
) -> None:
    _, expected = await told(server)
    hasty = serve(**limits).ready()
    client, heard = await told(hasty, on_overload="fail")
    assert client.resumes > 2
    assert finals(heard) == finals(expected) != []
    assert (heard[-1].frames_received - heard[-1].frames_dropped, heard[-1].segments) == (
        len(FRAMES),
        len(finals(expected)),
    )
    assert hasty.metrics()['poseline_ws_closes_total{code="4429"}'] == client.resumes


async def test_too_fast_is_said_once_what_was_accepted_is_scored(serve: Serve) -> None:
    heard: list[Any] = []
    async with connect(serve(frames_per_second=30).ready().ws, subprotocols=[MSGPACK.subprotocol]) as socket:  # type: ignore[list-item]
        options = StreamOptions(on_overload="fail", scores_hz=30)
        await socket.send(MSGPACK.encode(SessionStart(layout="body16", coordinates=NATIVE, options=options)))
        for seq in (0, 50):
            await socket.send(MSGPACK.encode(Frames(seq, FRAMES[seq : seq + 50])))
        with suppress(ConnectionClosed):
            while True:
                heard.append(MSGPACK.decode_server(await socket.recv(decode=False)))
    assert socket.close_code == 4429
    error = heard[-1]
    assert (type(error), error.code, error.fatal, error.seq) == (protocol.ErrorMessage, "too_fast", True, heard[-2].seq)
    scored = sum(isinstance(one, protocol.Scores) for one in heard)
    assert 30 * BURST_SECONDS <= scored < 70, "two seconds' worth, and what came in while they were"
    assert not any(isinstance(one, SegmentFinal) and one.forced != "none" for one in heard), "the session is not over"


def test_a_bucket_holds_a_burst_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(10.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(21)] == [True] * 20 + [False]
    assert [bucket.take(0.25) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.0) for _ in range(21)].count(True) == 20, "it holds no more than a burst"
    times = [100.0 + n / 9.9 for n in range(1, 500)]
    assert all(bucket.take(t) for t in times), "who keeps to the rate is never turned away"
