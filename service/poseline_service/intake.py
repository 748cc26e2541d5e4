"""Poses of everybody who has sent something in this turn of the event loop, read side by side.

Reading one pose is a dozen calls of numpy on 64 numbers, which cost more than a step of the network; reading a hundred is
the same dozen. So sessions leave their arrivals here unread, and at the end of the turn all that share a layout are
unpacked, checked and converted at once. Where anything is wrong in a group, each arrival is read alone, so the fault falls
on its own session and on no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from poseline.errors import InputError
from poseline.keypoints import read_keypoints
from poseline.pose import PoseConverter
from poseline.protocol import Person
from poseline.skeleton import Floats
from poseline_service.logging import log


class Arrival(Struct, eq=False, gc=False):
    """A frame that came: media time, the client's number of it, and who is in it."""

    t: float
    number: int
    people: list[Person]
    poses: Sequence[Floats] | None = None
    """Native (16, 4), one a person; None until they are read."""
    whole: Sequence[bool] = ()
    """Whether somebody's pose misses no joint."""


class Receiver(Protocol):
    """A session, as the intake sees it."""

    converter: PoseConverter
    unread: list[Arrival]

    def refuse(self, arrival: Arrival, error: InputError) -> None:
        """This arrival cannot be read, and nothing after it counts."""
        ...

    def advance(self) -> None:
        """The others can go on their way."""
        ...

    def broke(self, error: Exception) -> None:
        """It has a bug of ours; nobody else must suffer from it."""
        ...


_MANY = 64
"""Sessions: a batch of the engine (beyond it a larger one gains little)."""


class Intake:
    """One per event loop. count: told how many frames were read. score: called when there is something to score, with
    whether batches should be full."""

    def __init__(self, count: Callable[[int], None], score: Callable[[bool], None]) -> None:
        self._count, self._score = count, score
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Receiver] = []

    def announce(self, receiver: Receiver) -> None:
        """It has something unread, and had nothing before."""
        if not self._waiting:
            self._loop.call_soon(self._end_turn)
        self._waiting.append(receiver)

    def hurry(self) -> None:
        """Do not wait for the end of the turn if many are waiting: what has just been touched is still in the caches, and
        after hundreds of others it would no longer be."""
        if len(self._waiting) >= _MANY:
            self._read_all()
            self._score(True)

    def _end_turn(self) -> None:
        self._read_all()
        self._score(False)

    def _read_all(self) -> None:
        receivers, self._waiting = self._waiting, []
        groups: dict[PoseConverter, list[Receiver]] = {}
        for receiver in receivers:
            groups.setdefault(receiver.converter, []).append(receiver)
        for converter, members in groups.items():
            try:
                _read(converter, [arrival for member in members for arrival in member.unread])
            except Exception:
                for member in members:
                    _read_alone(converter, member)
        self._count(sum(arrival.poses is not None for receiver in receivers for arrival in receiver.unread))
        for receiver in receivers:  # all of them first: whatever one does, the others can be announced again
            receiver.unread = []
        for receiver in receivers:
            try:
                receiver.advance()
            except Exception as error:
                log.exception("session_broke")
                receiver.broke(error)


def _read_alone(converter: PoseConverter, receiver: Receiver) -> None:
    for arrival in receiver.unread:
        try:
            _read(converter, [arrival])
        except InputError as error:
            receiver.refuse(arrival, error)
            return
        except Exception as error:
            log.exception("session_broke")
            receiver.broke(error)
            return


def _read(converter: PoseConverter, arrivals: Sequence[Arrival]) -> None:
    """Fill in the poses of these arrivals. Raises ShapeMismatch, BadNumber, BadConfidence."""
    keypoints = [person.kp for arrival in arrivals for person in arrival.people]

    def where(i: int) -> str:
        places = [
            (f"person {at}" if person.id is None else f"track {person.id}", arrival.number)
            for arrival in arrivals
            for at, person in enumerate(arrival.people)
        ]
        who, number = places[i]
        return f" ({who}, frame {number})"

    if keypoints:
        read = read_keypoints(keypoints, converter.layout, converter.coordinates.dims, where)
        poses = converter.convert(read)
        whole = (poses[..., 3].min(axis=1) > 0).tolist()
        rows = list(poses)
    else:
        rows, whole = list[Floats](), list[bool]()
    begin = 0
    for arrival in arrivals:
        stop = begin + len(arrival.people)
        arrival.poses, arrival.whole = rows[begin:stop], whole[begin:stop]
        begin = stop
