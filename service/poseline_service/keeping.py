"""Sessions that can be resumed: who holds which, and their way to the store of states and back.

Every session has a `Holding`, its place in the store. It is saved when its connection has broken; where the store outlives
this process, also whenever frames are acknowledged, and before a word that binds is sent. A task runs only while something
is on its way to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Protocol

from msgspec import DecodeError, Struct, msgpack

from poseline.errors import PoselineError, StateError
from poseline.protocol import Resume, SessionStart
from poseline.sealing import seal, unseal
from poseline_service.account import Books
from poseline_service.errors import SessionExpired, StoreUnavailable
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.outbox import OutboxState
from poseline_service.people import PeopleState
from poseline_service.states import State, StateStore
from poseline_service.tracks import TrackState

_KIND = "session 3"


class SavedSession(Struct, frozen=True):
    """All that is known of a session, to travel. digest: of the model. start: with the options in effect. opened: tracks so
    far. announced: segments whose start was told. over: how it ended (close code, reason), if it did."""

    session_id: str
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


class Holding:
    """A session's place in the store. token: what its client must bring to resume it."""

    def __init__(self, keeper: Keeper, name: str, epoch: int, former: bytes | None) -> None:
        self._keeper = keeper
        self.name = name
        self._epoch = epoch
        self.token = token_urlsafe(24)
        self._keys = (_hashed(self.token),) if former is None else (_hashed(self.token), former)
        self.durable, self.seconds = keeper.durable, keeper.seconds

    def admits(self, key: bytes) -> bool:
        return key in self._keys

    def confirm(self) -> None:
        """The client has its new token: the former one is good no more from the next save on."""
        self._keys = self._keys[:1]

    def save(self, session: SavedSession, told: Callable[[PoselineError | None], None]) -> None:
        """Keep it; `told` hears how that went, in a later turn of the loop."""
        content = seal(_KIND, msgpack.encode(session))
        self._keeper.run(self._save(State(content, self._keys), told))

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
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def durable(self) -> bool:
        """What is kept outlives this process."""
        return self._store.durable

    def begin(self, name: str) -> Holding:
        return Holding(self, name, 1, None)

    async def resume(self, asked: Resume) -> tuple[Holding, SavedSession]:
        """Take a session over, from another connection of this process if there is one. Raises UnknownSession,
        SessionExpired, StoreUnavailable."""
        name, key = asked.session_id, _hashed(asked.token)
        if (live := self._live.get(name)) and live[0].admits(key):
            _, holder, left = live
            holder.supersede()
            await left.wait()
        try:
            epoch, content = await self._store.claim(name, key)
            saved = msgpack.decode(unseal(_KIND, content), type=SavedSession)
        except (StateError, DecodeError) as error:
            log.error("state_damaged", session_id=name, detail=str(error))
            raise SessionExpired(f"what was kept of session {name} cannot be used") from None
        return Holding(self, name, epoch, key), saved

    def enter(self, holding: Holding, holder: Holder) -> None:
        """It goes on over a connection of this process."""
        self._live[holding.name] = holding, holder, asyncio.Event()

    def leave(self, name: str) -> None:
        """It goes on no more; what was to be saved has been."""
        if live := self._live.pop(name, None):
            live[2].set()

    async def save(self, name: str, epoch: int, state: State) -> None:
        """Raises Superseded, StoreUnavailable."""
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


def _hashed(token: str) -> bytes:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest().encode()
