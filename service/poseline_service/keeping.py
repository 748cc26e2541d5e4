"""Sessions that can be resumed: who holds which, and their way to the store of states and back.

Every session has a `Holding`, its place in the store. It is saved when its connection has broken; where the store outlives
this process, also whenever frames are acknowledged, and before a word that binds is sent. A task runs only while something
is on its way to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Protocol
from weakref import WeakValueDictionary

from msgspec import DecodeError, Struct, msgpack
from msgspec.structs import replace

from poseline.codec import CODECS
from poseline.errors import PoselineError, StateError
from poseline.pose import PoseSequence
from poseline.protocol import Resume, SegmentFinal, SessionStart, SessionStatus
from poseline.sealing import seal, unseal
from poseline_service.account import Books
from poseline_service.errors import SessionExpired, StoreUnavailable, UnknownSession
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.outbox import OutboxState, finals_in
from poseline_service.people import PeopleState
from poseline_service.states import State, StateStore, not_resumable
from poseline_service.tracks import TrackState

_KIND = "session 6"
_LAST_WORDS = 5.0
"""Seconds that a session which is deleted has to tell them."""


class SavedSession(Struct, frozen=True):
    """All that is known of a session, to travel. owner: whose it is (`principals`). status: what they may see of it. digest:
    of the model. start: with the options in effect. opened: tracks so far. announced: segments whose start was told. over:
    how it ended (close code, reason), if it did."""

    session_id: str
    owner: str
    status: SessionStatus
    digest: str
    subprotocol: str
    start: SessionStart
    books: Books
    outbox: OutboxState
    tracks: list[TrackState]
    opened: int
    announced: list[str]
    finals: int
    over: tuple[int, str] | None
    people: PeopleState


class Holder(Protocol):
    """A session that goes on over a connection of this process."""

    def supersede(self) -> None:
        """Leave the connection, and save: somebody resumes it over another one."""
        ...

    def status(self) -> SessionStatus:
        """What its owner may see, but for the finals."""
        ...

    @property
    def finals(self) -> list[SegmentFinal]:
        """The newest that were told."""
        ...

    def remembered(self, track_id: str) -> PoseSequence:
        """A track's newest poses. Raises NotRemembered."""
        ...

    def delete(self) -> None:
        """End it, and leave when all that was accepted has been told."""
        ...

    def abandon(self) -> None:
        """Leave at once, whatever is still to be told."""
        ...


class Holding:
    """A session's place in the store. token: what its client must bring to resume it."""

    def __init__(self, keeper: Keeper, name: str, owner: str, epoch: int, former: bytes | None) -> None:
        self._keeper = keeper
        self.name, self.owner = name, owner
        self._epoch = epoch
        self.token = token_urlsafe(24)
        key = _hashed(self.token, owner)
        self._keys = (key,) if former is None else (key, former)
        self.durable, self.seconds = keeper.durable, keeper.seconds

    def admits(self, key: bytes) -> bool:
        return key in self._keys

    def confirm(self) -> None:
        """The client has its new token: the former one is good no more, in a store that others use from the next save on."""
        self._keys = self._keys[:1]

    def save(self, session: SavedSession, told: Callable[[PoselineError | None], None]) -> None:
        """Keep it; `told` hears how that went, in a later turn of the loop."""
        content = seal(_KIND, msgpack.encode(session))
        about = msgpack.encode(session.status)
        self._keeper.run(self._save(State(content, self._keys, self.owner, about), told))

    async def _save(self, state: State, told: Callable[[PoselineError | None], None]) -> None:
        error = None
        try:
            await self._keeper.before_save()
            await self._keeper.save(self.name, self._epoch, state)
        except PoselineError as failed:
            error = failed
        told(error)

    def forget(self) -> None:
        """It ended, and its client knows how."""
        self._keeper.run(self._keeper.forget(self.name, self._epoch))


class Keeper:
    """The sessions of one server, and the store behind them. seconds: for which a session may be resumed. before_save: what
    must have succeeded before a state is saved; raises StoreUnavailable."""

    def __init__(
        self, store: StateStore, seconds: float, metrics: Metrics, before_save: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self.before_save = before_save
        self.seconds = seconds
        self._metrics = metrics
        self._live: dict[str, tuple[Holding, Holder, asyncio.Event]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def durable(self) -> bool:
        """What is kept outlives this process."""
        return self._store.durable

    def begin(self, name: str, owner: str) -> Holding:
        return Holding(self, name, owner, 1, None)

    async def resume(self, asked: Resume, owner: str) -> tuple[Holding, SavedSession]:
        """Take a session over, from another connection of this process if there is one. Who does not `enter` it in the same
        turn of the loop leaves it to the next to come. Raises UnknownSession, SessionExpired, StoreUnavailable."""
        name, key = asked.session_id, _hashed(asked.token, owner)
        async with self._turn(name):
            live = self._live.get(name)
            admitted = live is not None and live[0].admits(key)
            if live and not admitted and not self.durable:  # what rests in memory is older, and so are its keys
                raise not_resumable(name)
            if admitted:
                await self._supersede(name)
            epoch, content = await self._store.claim(name, key)
            await self._supersede(name)  # it went on elsewhere: who holds it here did not know, and saves no more
            return Holding(self, name, owner, epoch, key), _opened(name, content)

    async def _supersede(self, name: str) -> None:
        if live := self._live.get(name):
            _, holder, left = live
            holder.supersede()
            await left.wait()

    def _turn(self, name: str) -> asyncio.Lock:
        """Who resumes or deletes a session does so alone."""
        return self._turns.setdefault(name, asyncio.Lock())

    def enter(self, holding: Holding, holder: Holder) -> None:
        """It goes on over a connection of this process."""
        assert holding.name not in self._live
        self._live[holding.name] = holding, holder, asyncio.Event()

    def leave(self, holding: Holding) -> None:
        """It goes on no more; what was to be saved has been."""
        if (live := self._live.get(holding.name)) and live[0] is holding:
            del self._live[holding.name]
            live[2].set()

    # --- for its owner --------------------------------------------------------------------------------------------

    async def owned(self, owner: str) -> list[SessionStatus]:
        """Newest first: those that are open here, and at most `LISTED` that are kept. Raises StoreUnavailable."""
        kept = [_until(msgpack.decode(about, type=SessionStatus), at) for about, at in await self._store.owned(owner)]
        found = {one.session_id: one for one in kept}
        for holding, holder, _ in self._live.values():
            if holding.owner == owner:
                found[holding.name] = holder.status()
        return sorted(found.values(), key=lambda one: one.created, reverse=True)

    async def find(self, name: str, owner: str) -> SessionStatus:
        """With the finals that are kept. Raises UnknownSession, SessionExpired, StoreUnavailable."""
        if (live := self._live.get(name)) and live[0].owner == owner:
            return replace(live[1].status(), finals=live[1].finals)
        if (kept := await self._store.read(name, owner)) is None:
            raise _unknown(name)
        saved = _opened(name, kept[0])
        finals = finals_in(saved.outbox.lasting, CODECS[saved.subprotocol])
        return replace(_until(saved.status, kept[1]), finals=finals)

    def remembered(self, name: str, owner: str, track_id: str) -> PoseSequence:
        """The newest poses of somebody in a session that is open here. Raises UnknownSession, NotRemembered."""
        live = self._live.get(name)
        if live is None or live[0].owner != owner:
            raise UnknownSession(f"there is no session {name} open on this server")
        return live[1].remembered(track_id)

    async def delete(self, name: str, owner: str) -> None:
        """End it, if it is open here, and keep nothing of it anywhere. Raises UnknownSession, StoreUnavailable."""
        async with self._turn(name):
            live = self._live.get(name)
            here = live is not None and live[0].owner == owner
            if live and here:
                _, holder, left = live
                holder.delete()
                try:
                    async with asyncio.timeout(_LAST_WORDS):
                        await left.wait()
                except TimeoutError:  # it does not read what it is told
                    holder.abandon()
                    await left.wait()
            if not (await self._store.delete(name, owner) or here):
                raise _unknown(name)

    # --- on the way to the store ----------------------------------------------------------------------------------

    async def save(self, name: str, epoch: int, state: State) -> None:
        """Raises Superseded, SessionDeleted, StoreUnavailable."""
        self._metrics.states_saved.inc()
        self._metrics.state_saved_bytes.inc(len(state.content))
        try:
            await self._store.save(name, epoch, state, self.seconds)
        except StoreUnavailable as error:
            self._metrics.states_failed.inc()
            log.warning("state_not_saved", session_id=name, detail=error.detail)
            raise

    async def forget(self, name: str, epoch: int) -> None:
        try:
            await self._store.forget(name, epoch)
        except StoreUnavailable as error:  # it forgets by itself when its time is over
            log.warning("state_not_forgotten", session_id=name, detail=error.detail)

    def tidy(self) -> None:
        """To be called now and then: what is over is not kept until the next save."""
        self._store.tidy()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("keeping_failed", exc_info=error)

    async def stop(self) -> None:
        """Everything under way has arrived, or failed."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()


def _opened(name: str, content: bytes) -> SavedSession:
    """Raises SessionExpired for what cannot be used."""
    try:
        return msgpack.decode(unseal(_KIND, content), type=SavedSession)
    except (StateError, DecodeError) as error:
        log.error("state_damaged", session_id=name, detail=str(error))
        raise SessionExpired(f"what was kept of session {name} cannot be used") from None


def _until(status: SessionStatus, moment: float) -> SessionStatus:
    return status if status.state == "open" else replace(status, expires=datetime.fromtimestamp(moment, UTC))


def _unknown(name: str) -> UnknownSession:
    return UnknownSession(f"there is no session {name}, or it was forgotten")


def _hashed(token: str, owner: str) -> bytes:
    """What is kept of a token: only its owner's is good."""
    return sha256(f"{owner}\0{token}".encode()).hexdigest().encode()
