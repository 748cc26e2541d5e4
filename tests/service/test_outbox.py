"""What waits for the store, and what a client may be told before."""

from __future__ import annotations

from poseline import protocol
from poseline.codec import JSON
from poseline_service.outbox import Outbox


def final(name: str) -> protocol.SegmentFinal:
    times = {"start": 0.0, "end": 1.0, "score": 0.9, "forced": "none"}
    return protocol.SegmentFinal(segment_id=name, track_id="p1", label="wave", label_id=1, **times)  # type: ignore[arg-type]


def test_why_a_connection_ends_is_told_under_the_number_of_what_has_left() -> None:
    """Under a later one, a client would say at its resume that it has heard the final that waits, and never hear it."""
    left: list[bytes] = []
    outbox = Outbox("ses_1", JSON, left.append, commit=lambda: None)
    outbox.post(protocol.Flushed(t=0.0))
    outbox.post(final("g1.1"))
    outbox.post(protocol.Flushed(t=1.0))
    outbox.farewell(protocol.ErrorMessage(code="superseded", detail="", fatal=True))
    told = [JSON.decode_server(data) for data in left]
    assert [(type(one).__name__, one.seq) for one in told if one] == [("Flushed", 0), ("ErrorMessage", 0)]
    outbox.release(1)
    outbox.farewell(protocol.ErrorMessage(code="superseded", detail="", fatal=True))
    assert [one.seq for one in map(JSON.decode_server, left) if one] == [0, 0, 1, 2, 2]
