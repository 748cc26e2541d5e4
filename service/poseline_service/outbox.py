"""What a client is told: server messages, numbered from 0 without gaps in the order of posting.

Segment events become messages here, so that the reasons for a retraction have one home. What is posted to somebody in one go
leaves in one write: a system call costs more than anything else that a message goes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from poseline import protocol
from poseline.codec import Codec
from poseline.segments import SegmentEvent
from poseline.translation import rounded
from poseline_service.logging import log


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


class Outbox:
    """Numbers messages and hands their bytes to the socket."""

    def __init__(self, session_id: str, codec: Codec, send: Callable[[bytes], None]) -> None:
        self.session_id = session_id
        self._codec = codec
        self._send = send
        self._seq = 0

    def post(self, message: protocol.ServerMessage) -> None:
        message.seq, message.session_id = self._seq, self.session_id
        self._seq += 1
        self._send(self._codec.encode(message))


def segment_message(event: SegmentEvent, segment_id: str, track_id: str) -> protocol.ServerMessage:
    """A segment event as the wire has it."""
    label, label_id = event.label, event.label_id
    start, end, score = rounded(event)
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
            )
        case "retracted":
            reason = "below_threshold" if event.forced == "none" else "too_short"
            return protocol.SegmentRetracted(
                segment_id=segment_id, track_id=track_id, label=label, label_id=label_id, reason=reason
            )
