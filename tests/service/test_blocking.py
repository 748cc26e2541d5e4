"""The client for programs without an event loop, against a real server, over lines that break."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cutting import relayed
from made_up import NATIVE, frames_of
from poseline import protocol
from poseline.blocking import SyncStreamClient
from poseline.client import ConnectionFailed, RemoteError
from poseline.protocol import Frame, SegmentFinal, SessionClosed
from servers import PATIENCE, ServerProcess, free_ports

FRAMES = frames_of(5, 600)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Any:
    yield
    assert [one.name for one in threading.enumerate() if one.name == "poseline-stream"] == []


def finals(messages: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (one.segment_id, one.label, one.start, one.end, round(one.score, 3))
        for one in messages
        if isinstance(one, SegmentFinal)
    ]


def send_all(stream: SyncStreamClient, frames: list[Frame], then: dict[int, Any]) -> None:
    for begin in range(0, len(frames), 20):
        then.get(begin, lambda: None)()
        stream.send(frames[begin : begin + 20])
    stream.close()


def test_a_broken_line_changes_nothing(server: ServerProcess) -> None:
    """One thread sends, another hears; and the program that does both in turn hears the same."""
    with SyncStreamClient(server.ws, coordinates=NATIVE, timeout=PATIENCE) as stream:
        send_all(stream, FRAMES, {})
        expected = list(stream)
        assert stream.receive() is None
    assert len(finals(expected)) > 10
    with relayed(server.port) as line, SyncStreamClient(line.ws, coordinates=NATIVE, timeout=PATIENCE) as stream:
        cuts = {at: lambda: line.loop.call_soon_threadsafe(line.cut) for at in (100, 300, 580)}
        sending = threading.Thread(target=send_all, args=(stream, FRAMES, cuts))
        sending.start()
        heard = list(stream)
        sending.join()
        assert stream.resumes >= 1
        assert stream.started.resumed
    assert finals(heard) == finals(expected)
    assert isinstance(heard[-1], SessionClosed)


def test_many_threads_may_send_while_the_line_is_down(server: ServerProcess) -> None:
    with relayed(server.port) as line, SyncStreamClient(line.ws, coordinates=NATIVE, timeout=PATIENCE) as stream:
        line.target = free_ports()[0]  # nobody is there
        line.loop.call_soon_threadsafe(line.cut)
        time.sleep(0.2)
        threads = [
            threading.Thread(target=lambda part=part: [stream.send([frame]) for frame in FRAMES[part::6]])
            for part in range(6)
        ]
        for one in threads:
            one.start()
        time.sleep(0.1)
        line.target = server.port
        for one in threads:
            one.join()
        stream.close()
        heard = list(stream)
        assert stream.resumes >= 1
    assert heard[-1].frames_received == len(FRAMES)
    numbers = [one.client_seq for one in heard if isinstance(one, protocol.Ack)]
    assert numbers[-1] == len(FRAMES) - 1, "each frame has a number of its own"


def test_nothing_in_time_is_told_and_nothing_is_lost(server: ServerProcess) -> None:
    with SyncStreamClient(server.ws, coordinates=NATIVE, timeout=0.05) as stream:
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            stream.receive()
        with pytest.raises(TimeoutError, match="0 s"):
            stream.receive(timeout=0)
        stream.flush()
        assert isinstance(stream.receive(timeout=PATIENCE), protocol.Flushed)
        stream.update(min_score=0.9)
        assert isinstance(stream.receive(timeout=PATIENCE), protocol.SessionUpdated)
        stream.keepalive()
        with pytest.raises(TimeoutError):
            list(stream)


def test_what_ends_the_stream_is_told_to_who_sends_and_who_hears(server: ServerProcess) -> None:
    with SyncStreamClient(server.ws, coordinates=NATIVE, timeout=PATIENCE) as stream:
        stream.send([Frame(1e13, [])])
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                list(stream)
            assert caught.value.code == "bad_timestamps"
        with pytest.raises(RemoteError):
            stream.send(FRAMES[:1])
    with SyncStreamClient(server.ws, coordinates=NATIVE, timeout=PATIENCE) as stream:
        stream.close()
        list(stream)
        with pytest.raises(ConnectionFailed, match="ended"):
            stream.send(FRAMES[:1])


def test_who_waits_when_the_stream_is_left_is_told(server: ServerProcess) -> None:
    told: list[BaseException] = []

    def wait(stream: SyncStreamClient) -> None:
        try:
            list(stream)
        except ConnectionFailed as error:
            told.append(error)

    with SyncStreamClient(server.ws, coordinates=NATIVE) as stream:
        waiting = threading.Thread(target=wait, args=(stream,))
        waiting.start()
    waiting.join(PATIENCE)
    assert [str(one) for one in told] == ["the stream was left"]
    with pytest.raises(ConnectionFailed, match="left"):
        stream.send(FRAMES[:1])


def test_what_cannot_be_opened_says_why(server: ServerProcess) -> None:
    with pytest.raises(RemoteError) as caught, SyncStreamClient(server.ws, layout="coco99"):
        pass
    assert caught.value.code == "unknown_layout"
    port, _ = free_ports()
    with pytest.raises(ConnectionFailed), SyncStreamClient(f"ws://127.0.0.1:{port}"):
        pass
    closed = SyncStreamClient(server.ws)
    for attempt in (lambda: closed.send(FRAMES[:1]), closed.receive, closed.close):
        with pytest.raises(ConnectionFailed, match="with statement"):
            attempt()
    with pytest.raises(TypeError, match="colour"):
        SyncStreamClient(server.ws, colour="green")
