"""What a client is told: server messages, numbered from 0 without gaps in the order of posting.

Segment events become messages here, so that the reasons for a retraction have one home. What is posted to somebody in one go
leaves in one write: a system call costs more than anything else that a message goes through.

The newest messages are kept, for whoever comes back after a broken connection. And a word that binds (a segment is final, or
retracted) waits, where the session's state is kept elsewhere, until that state holds it: else a server that dies could leave
a client with a final of which its successor knows nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

from msgspec import Struct

from poseline import protocol
from poseline.codec import Codec
from poseline.segments import SegmentEvent
from poseline.translation import counted, rounded
from poseline_service.logging import log

LASTING, PASSING = 1024, 128
"""Messages kept for who comes back: of segments, people and errors; and scores, acknowledgements, updates, who is who."""
_UNHEARD = 120.0
"""Seconds after which a message was heard, or its connection would have been given up long ago."""


class Flushable(Protocol):
    def flush(self) -> None:
        """Write what has been posted."""
        ...


class Outlet:
    """Who has been told something that is not yet written; one per event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Flushable] = []

    def announce(self, link: Flushable) -> None:
        """It has something to write, and had nothing before: at the end of this turn of the loop at the latest."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(link)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for link in waiting:
            try:
                link.flush()
            except Exception:  # its own affair: the others must hear what they were told
                log.exception("write_failed")


class OutboxState(Struct, frozen=True):
    """seq: of the next message. kept: (seq, message) as it was encoded."""

    seq: int
    lasting: list[tuple[int, bytes]]
    passing: list[tuple[int, bytes]]


_PASSING = (protocol.Scores, protocol.Ack, protocol.SegmentUpdated, protocol.Tracks)
"""Messages whose time is soon over."""
_BINDING = (protocol.SegmentFinal, protocol.SegmentRetracted)


class Outbox:
    """Numbers messages, hands their bytes to the socket and keeps the newest.

    commit: called when something has been posted that must not leave before `release`; None where nothing need wait.
    """

    def __init__(
        self,
        session_id: str,
        codec: Codec,
        send: Callable[[bytes], None],
        state: OutboxState | None = None,
        commit: Callable[[], None] | None = None,
    ) -> None:
        self.session_id = session_id
        self._codec = codec
        self._send = send
        self.commit = commit
        self.copy: Callable[[protocol.ServerMessage], None] | None = None
        """Hears of every message, too."""
        state = state or OutboxState(0, [], [])
        self._seq = state.seq
        now = monotonic()
        self._lasting = deque(((now, *one) for one in state.lasting), LASTING)
        self._passing = deque(((now, *one) for one in state.passing), PASSING)
        self._waiting: deque[tuple[int, bool, bytes]] = deque()

    @property
    def subprotocol(self) -> str:
        return self._codec.subprotocol

    @property
    def newest(self) -> int:
        """The newest message's number; -1 where there is none."""
        return self._seq - 1

    def farewell(self, message: protocol.ErrorMessage) -> None:
        """Why this connection ends, and it alone: no message of the session, it repeats the number of the newest that left;
        what waits has not been heard, and who comes back must not say that it has."""
        newest = self._waiting[0][0] - 1 if self._waiting else self.newest
        message.seq, message.session_id = max(newest, 0), self.session_id
        self._send(self._codec.encode(message))

    def post(self, message: protocol.ServerMessage) -> None:
        seq = message.seq = self._seq
        message.session_id = self.session_id
        self._seq = seq + 1
        if self.copy is not None:
            self.copy(message)
        kind, encoded = type(message), self._codec.encode(message)
        kept, now = self._passing if kind in _PASSING else self._lasting, monotonic()
        if kind is not protocol.SessionStarted:  # it is said anew at every resume, with a token that is good
            kept.append((now, seq, encoded))
        while kept and kept[0][0] < now - _UNHEARD:
            kept.popleft()
        if self.commit is not None and (self._waiting or kind in _BINDING):
            self._waiting.append((seq, kind in _BINDING, encoded))
            if len(self._waiting) == 1:
                self.commit()
        else:
            self._send(encoded)

    def release(self, seq: int) -> None:
        """What was posted up to that message is safe; so is what follows, until something binds again."""
        waiting = self._waiting
        while waiting and (waiting[0][0] <= seq or not waiting[0][1]):
            self._send(waiting.popleft()[2])
        if waiting and self.commit is not None:
            self.commit()

    # --- a connection that broke ----------------------------------------------------------------------------------

    def again(self, started: protocol.SessionStarted, heard: int) -> None:
        """To a client that comes back: message 0 once more, and all that is kept of what followed the message `heard`.

        A client may have heard of what no kept state knows (nothing that binds): numbers go on after that.
        """
        self._seq = max(self._seq, heard + 1)
        started.session_id, started.server_seq = self.session_id, self.newest
        self._send(self._codec.encode(started))
        for seq, encoded in sorted([*_numbered(self._lasting), *_numbered(self._passing)]):
            if seq > heard:
                self._send(encoded)

    @property
    def finals(self) -> list[protocol.SegmentFinal]:
        """The newest that were told."""
        waiting = {seq for seq, _, _ in self._waiting}
        return finals_in([one for one in _numbered(self._lasting) if one[0] not in waiting], self._codec)

    def save(self) -> OutboxState:
        return OutboxState(self._seq, _numbered(self._lasting), _numbered(self._passing))


def _numbered(kept: Iterable[tuple[float, int, bytes]]) -> list[tuple[int, bytes]]:
    return [(seq, encoded) for _, seq, encoded in kept]


def finals_in(kept: Iterable[tuple[int, bytes]], codec: Codec) -> list[protocol.SegmentFinal]:
    """The finals among messages as they were encoded."""
    messages = (codec.decode_server(encoded) for _, encoded in kept)
    return [one for one in messages if isinstance(one, protocol.SegmentFinal)]


def segment_message(event: SegmentEvent, segment_id: str, track_id: str) -> protocol.ServerMessage:
    """A segment event as the wire has it."""
    label, label_id = event.label, event.label_id
    start, end, score = rounded(event)
    repetitions = counted(event)
    match event.phase:
        case "started":
            return protocol.SegmentStarted(
                segment_id=segment_id, track_id=track_id, label=label, label_id=label_id, start=start, score=score
            )
        case "updated":
            return protocol.SegmentUpdated(
                segment_id=segment_id,
                track_id=track_id,
                label=label,
                label_id=label_id,
                start=start,
                end=end,
                score=score,
                repetitions=repetitions,
            )
        case "final":
            return protocol.SegmentFinal(
                segment_id=segment_id,
                track_id=track_id,
                label=label,
                label_id=label_id,
                start=start,
                end=end,
                score=score,
                forced=event.forced,
                repetitions=repetitions,
            )
        case "retracted":
            reason = "below_threshold" if event.forced == "none" else "too_short"
            return protocol.SegmentRetracted(
                segment_id=segment_id, track_id=track_id, label=label, label_id=label_id, reason=reason
            )
