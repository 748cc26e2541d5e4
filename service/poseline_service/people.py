"""Who the people of a stream's frames are: as its client names them, or, where it names nobody, as they are followed here.

The first person who comes settles which of the two it is, for the whole session. Followed people are `p1`, `p2`, … in the
order in which they appear; which of a frame's people is who is told whenever that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import numpy as np
from msgspec import Struct

from poseline import protocol
from poseline.errors import MalformedMessage
from poseline.pose import Coordinates
from poseline.skeleton import Floats
from poseline.tracking import Tracker, TrackerState, in_one_place
from poseline_service.intake import Arrival
from poseline_service.tracks import check_name


class PeopleState(Struct, frozen=True):
    """named: whether the client names people, None while nobody has come. tracker: where it does not."""

    named: bool | None = None
    tracker: TrackerState | None = None


class People:
    """The people of one session. gap_reset: seconds after which who comes back is somebody else. most: followed at a time.

    post: tells the client. warn: counts a warning, by its code.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        gap_reset: float,
        most: int,
        post: Callable[[protocol.ServerMessage], None],
        warn: Callable[[str], None],
        saved: PeopleState | None = None,
    ) -> None:
        """Raises StateError."""
        self._named = saved.named if saved else None
        measured = coordinates.space in ("camera_m", "world_m")  # a picture's depth is a guess, relative to the person
        self._tracker = Tracker(gap_reset, most, depth=measured)
        if saved and saved.tracker:
            self._tracker.load(saved.tracker)
        self._post, self._warn = post, warn
        self._told: list[str | None] = []

    def save(self) -> PeopleState:
        return PeopleState(self._named, None if self._named else self._tracker.save())

    def check(self, frame: protocol.Frame, number: int, known: Container[str]) -> None:
        """Raises MalformedMessage for a name that cannot be, or that should (not) be there; `known` ones are good."""
        for person in frame.people:
            named = person.id is not None
            if self._named is None:
                self._named = named
            elif named != self._named:
                what = (
                    "has no id, and those before it have" if self._named else "has an id, and those before it have none"
                )
                what = f"somebody in frame {number} {what}: a session names everybody, or nobody"
                raise MalformedMessage(what, param="id", code="invalid_message")
            if person.id is not None and person.id not in known:
                check_name(person.id, "id")

    def names(self, arrival: Arrival, poses: Sequence[Floats]) -> Sequence[str | None]:
        """The name of everybody in a frame, in its order; None for who is not followed. poses: native (16, 4), one each."""
        if self._named or not arrival.people:
            return [person.id for person in arrival.people]
        stacked = np.stack(poses)
        if len(stacked) > 1 and in_one_place(stacked):
            self._warn("one_place")
        numbers = self._tracker.update(stacked, arrival.t)
        names = [None if number is None else f"p{number}" for number in numbers]
        if names != self._told:
            self._told = names
            self._post(protocol.Tracks(client_seq=arrival.number, t=round(arrival.t, 6), track_ids=names))
        return names

    def forget(self) -> None:
        """Whoever comes now is somebody else."""
        self._tracker.forget()
