"""What a client is still to be told: server messages, numbered from 0 without gaps in the order of posting.

The session posts, the socket's writer takes; both on the event loop. Segment events become messages here, so that the
reasons for a retraction and the choice of what a `scores` message names have one home.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from poseline import protocol
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.translation import rounded
from poseline_service.tracks import Changes

TOP = 5
"""Classes named in a `scores` message."""


class Outbox:
    """The queue between a session and its socket."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.changes = Changes()
        self._seq = 0
        self._messages: deque[protocol.ServerMessage] = deque()

    def __len__(self) -> int:
        """Messages that have not yet left."""
        return len(self._messages)

    def post(self, message: protocol.ServerMessage) -> None:
        message.seq, message.session_id = self._seq, self.session_id
        self._seq += 1
        self._messages.append(message)
        self.changes.notify()

    def first(self) -> protocol.ServerMessage:
        return self._messages[0]

    def sent(self) -> None:
        """The first message has left."""
        self._messages.popleft()
        self.changes.notify()


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


class Pace:
    """Which of a track's frames scores are told of: `hz` a second of media time on average, none for 0."""

    def __init__(self, hz: float) -> None:
        self._hz = hz
        self._due: float | None = None

    def takes(self, t: float) -> bool:
        """To be asked once of every frame, in order."""
        if self._hz <= 0:
            return False
        due, every = t if self._due is None else self._due, 1 / self._hz
        if t < due - 1e-6:
            return False
        # Counted from when they were due, or rates that do not divide the grid's would come out lower.
        self._due = due + every if t < due + every else t + every
        return True


def top_scores(scores: Floats) -> list[tuple[int, float]]:
    """The best classes of (1 + K,) scores, best first: (label_id, score)."""
    best = np.argsort(scores)[::-1][:TOP]
    return [(int(k), round(float(scores[k]), 4)) for k in best]
