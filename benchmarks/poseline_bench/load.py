"""Many streams of 30 frames a second from one thread, in an open loop, at a few microseconds a message.

A wheel of slices, each at most a millisecond wide, goes round once in a frame interval; a stream lives in one slice,
drawn at random. When a slice is due its streams each write their next message, in a write of its own, whether or not
earlier ones were answered; then whatever has come is read. So a slow server meets the same load as a fast one, and a
frame's latency counts from when it was DUE: neither the server's backlog nor this generator's own lateness can hide.

Answers are counted, not decoded: the k-th `scores` message of a stream answers its k-th person-frame (of several people
one may be a frame ahead); the first stream of a crowd decodes its own to prove it. Answers are looked for once a slice,
so a latency is told up to one slice too long, never too short. No asyncio: the sockets' own calls are what this costs.
"""

from __future__ import annotations

import gc
import random
import selectors
from array import array
from collections import Counter
from math import inf
from time import perf_counter, sleep
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from poseline_bench.connection import Connection
from poseline_bench.wire import Script

SLICES_PER_SECOND = 1020
_AT_ONCE = 32
"""Handshakes under way while a crowd gathers: enough to keep the server busy, too few to overrun its listen queue."""


class Refused(Exception):
    """The server said no to what it should not refuse."""


class Crowd:
    """All streams to one server. Inside `with`, garbage collection rests, and every socket is closed at the end.

    waiting: on their way in. live: sending. refused: seconds from the beginning of the connection to each refusal.
    lost: streams that the server ended or that broke. answered: `scores` messages of all streams so far.
    """

    def __init__(self, port: int, script: Script, seed: int = 0) -> None:
        self.port, self.script = port, script
        self.request = script.handshake(port)
        self.waiting: set[Connection] = set()
        self.live: set[Connection] = set()
        self.closing: set[Connection] = set()
        self.refused: list[float] = []
        self.to_retry: list[tuple[Connection, float]] = []
        """Refused streams with their Retry-After, for whoever wants to bring them back."""
        self.lost = self.answered = self.sent = 0
        self._witness: Connection | None = None
        self._witnessed: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._slices = max(1, round(script.interval * SLICES_PER_SECOND))
        self._wheel: list[list[Connection]] = [[] for _ in range(self._slices)]
        self._turn = 0
        self._epoch = perf_counter()
        self._silent = False
        self._random = random.Random(seed)
        self.watch(inf, inf)

    def __enter__(self) -> Crowd:
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for stream in (*self.waiting, *self.live, *self.closing):
            stream.socket.close()
        self._selector.close()
        gc.enable()
        gc.unfreeze()

    # --- what a measurement asks for ------------------------------------------------------------------------------

    def open(self, tries: int = 0) -> Connection:
        """Begin a connection."""
        stream = Connection(self, tries)
        self.waiting.add(stream)
        self._selector.register(stream.socket, selectors.EVENT_WRITE, stream)
        return stream

    def close(self, stream: Connection, *, politely: bool) -> None:
        """Ask the server to finish the stream, where it has begun, or just leave."""
        if politely and stream.state == "live":
            self.live.discard(stream)
            self.closing.add(stream)
            stream.slice.remove(stream)
            stream.ask_to_close()
        else:
            self.drop(stream, lost=False)

    def close_one(self, dice: random.Random) -> None:
        """Close any stream: mostly one that is live, now and then one still on its way in; half of them politely."""
        some = self.waiting if dice.random() < 0.1 or not self.live else self.live
        if some:
            self.close(dice.choice(tuple(some)), politely=dice.random() < 0.5)

    @property
    def size(self) -> int:
        """Streams that are not over."""
        return len(self.waiting) + len(self.live) + len(self.closing)

    def has_room(self, size: int) -> bool:
        """One more may be opened without going over that size, or overrunning the server's listen queue."""
        return self.size < size and len(self.waiting) < _AT_ONCE

    def gather(self, streams: int, patience: float) -> bool:
        """Open streams and let them all begin to send once so many are live: opening is no part of what is held.

        False where it takes more than `patience` seconds. Raises Refused.
        """
        deadline = perf_counter() + patience
        self._silent = True
        while len(self.live) < streams:
            while self.has_room(streams):
                self.open()
            self.tick()
            if self.refused:
                raise Refused(f"the server refused a stream when {len(self.live)} of {streams} were open")
            if perf_counter() > deadline:
                return False
        self._silent = False
        for stream in self.live:
            self._place(stream)
        return True

    def run(self, seconds: float) -> None:
        end = perf_counter() + seconds
        while perf_counter() < end:
            self.tick()

    def watch(self, begin: float, end: float) -> None:
        """From now on keep the latencies of frames due in [begin, end), moments of `perf_counter`."""
        self._begin, self._end = begin, end
        self._expected = 0
        self._latencies = array("d")
        self._lateness = array("d")

    def settle(self, patience: float) -> int:
        """Go on until every watched frame is answered, at most so long; how many are not."""
        deadline = perf_counter() + patience
        while len(self._latencies) < self._expected and perf_counter() < deadline:
            self.tick()
        return self._expected - len(self._latencies)

    def latencies(self) -> NDArray[np.float64]:
        """Seconds of every watched frame of the streams still here; one that is not answered counts as if it were now."""
        now, script = perf_counter(), self.script
        ages = [
            now - due
            for stream in self.live
            for answer in range(stream.answered, stream.sent * script.answers)
            if self._begin <= (due := stream.first_due + answer // script.answers * script.interval) < self._end
        ]
        return np.array([*self._latencies, *ages])

    def lateness(self) -> NDArray[np.float64]:
        """Seconds by which each watched message was written after it was due."""
        return np.array(self._lateness)

    # --- the loop -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Wait for the next slice, send what is due in it, read what has come."""
        due = self._epoch + self._turn * self.script.interval / self._slices
        if (early := due - perf_counter()) > 0:
            sleep(early)
        if members := self._wheel[self._turn % self._slices]:
            watched = self._begin <= due < self._end
            self._expected += watched * len(members) * self.script.answers
            for stream in members:
                stream.send_next(due)
                if watched:
                    self._lateness.append(perf_counter() - due)
            self.sent += len(members)
        self._turn += 1
        events = self._selector.select(0)
        now = perf_counter()
        for key, _ in events:
            key.data.ready(now)

    # --- what streams report --------------------------------------------------------------------------------------

    def listen_to(self, stream: Connection) -> None:
        self._selector.modify(stream.socket, selectors.EVENT_READ, stream)

    def welcome(self, stream: Connection) -> None:
        """The session has started: the stream gets its phase and sends from its next turn on."""
        stream.state = "live"
        self.waiting.discard(stream)
        self.live.add(stream)
        self._witness = self._witness or stream
        if not self._silent:
            self._place(stream)

    def _place(self, stream: Connection) -> None:
        stream.slice = self._random.choice(self._wheel)
        stream.slice.append(stream)

    def answer(self, stream: Connection, payload: bytes, now: float) -> None:
        if stream is self._witness:
            self.script.check(payload, self._witnessed)
        due = stream.first_due + stream.answered // self.script.answers * self.script.interval
        stream.answered += 1
        self.answered += 1
        if self._begin <= due < self._end:
            self._latencies.append(now - due)

    def refuse(self, stream: Connection, now: float, head: bytes, body: bytes) -> None:
        """Raises Refused for anything but a 503: no load makes a request wrong."""
        self.drop(stream, lost=False)
        if b" 503 " not in head[:16]:
            raise Refused((head.partition(b"\r\n")[0] + b" " + body).decode(errors="replace"))
        self.refused.append(now - stream.began)
        _, _, after = head.lower().partition(b"\r\nretry-after:")
        self.to_retry.append((stream, float(after.partition(b"\r\n")[0] or 1)))

    def drop(self, stream: Connection, *, lost: bool) -> None:
        """The stream is over."""
        if stream.state == "gone":
            return
        if stream in stream.slice:
            stream.slice.remove(stream)
        stream.state = "gone"
        self.lost += lost
        for some in (self.waiting, self.live, self.closing):
            some.discard(stream)
        self._selector.unregister(stream.socket)
        stream.socket.close()
