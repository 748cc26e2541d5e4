"""Who holds a session: one at a time, whoever comes, in whatever order, whichever store it rests in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from secrets import token_hex

import pytest
from msgspec.structs import replace

from poseline.errors import PoselineError
from poseline.protocol import Resume, SegmentFinal, SessionStart, SessionStatus
from poseline_service.account import Books
from poseline_service.clock import ClockState
from poseline_service.errors import SessionDeleted, Superseded, UnknownSession
from poseline_service.keeping import Holding, Keeper, SavedSession
from poseline_service.metrics import Metrics
from poseline_service.outbox import OutboxState
from poseline_service.people import PeopleState
from poseline_service.states import MemoryStore, RedisStore
from servers import PATIENCE

OWNER = "somebody"


async def at_once() -> None:
    """Nothing needs to succeed before a state is saved."""


def saved_session(name: str) -> SavedSession:
    status = SessionStatus(
        session_id=name,
        state="kept",
        created=datetime.now(UTC),
        model="tiny",
        layout="body16",
        people=0,
        t=0.0,
        frames_received=0,
        segments=0,
    )
    return SavedSession(
        session_id=name,
        owner=OWNER,
        status=status,
        digest="",
        subprotocol="",
        start=SessionStart(layout="body16"),
        books=Books(0.0, ClockState(None, 0, 0.0, 0.0, 0, 0.0), -1, 0, 0, 0, 0.0, {}, []),
        outbox=OutboxState(0, [], []),
        tracks=[],
        opened=0,
        announced=[],
        finals=0,
        over=None,
        people=PeopleState(),
    )


class Held:
    """A session over a connection, as the keeper knows one: who is told to go saves first, or forgets."""

    def __init__(self, keeper: Keeper, holding: Holding) -> None:
        self.keeper, self.holding = keeper, holding
        self.saved: list[PoselineError | None] = []
        keeper.enter(holding, self)

    async def save(self) -> None:
        told = asyncio.get_running_loop().create_future()
        self.holding.save(saved_session(self.holding.name), told.set_result)
        self.saved.append(await told)

    def supersede(self) -> None:
        def told(error: PoselineError | None) -> None:
            self.saved.append(error)
            self.keeper.leave(self.holding)

        self.holding.save(saved_session(self.holding.name), told)

    def status(self) -> SessionStatus:
        return replace(saved_session(self.holding.name).status, state="open")

    @property
    def finals(self) -> list[SegmentFinal]:
        return []

    def delete(self) -> None:
        self.holding.forget()
        self.keeper.leave(self.holding)

    def abandon(self) -> None:
        raise AssertionError("it goes when it is told")


async def resume(keeper: Keeper, name: str, token: str) -> Held:
    holding, _ = await keeper.resume(Resume(name, token, 0), OWNER)
    return Held(keeper, holding)


async def state(keeper: Keeper, name: str) -> str | None:
    return next((one.state for one in await keeper.owned(OWNER) if one.session_id == name), None)


@pytest.fixture
def name() -> str:
    return "ses_" + token_hex(8)


@pytest.fixture(params=["memory", "redis"])
async def keeper(request: pytest.FixtureRequest, redis: str) -> AsyncIterator[Keeper]:
    store = MemoryStore(100_000) if request.param == "memory" else RedisStore(redis, 2.0)
    keeper = Keeper(store, 60.0, Metrics(), at_once)
    yield keeper
    async with asyncio.timeout(PATIENCE):
        await keeper.stop()


async def test_a_former_token_takes_nothing_from_who_goes_on(keeper: Keeper, name: str) -> None:
    first = Held(keeper, keeper.begin(name, OWNER))
    second = await resume(keeper, name, first.holding.token)
    second.holding.confirm()
    if keeper.durable:  # only from the next save on
        await second.save()
    with pytest.raises(UnknownSession, match="can be resumed here with this token"):
        await keeper.resume(Resume(name, first.holding.token, 0), OWNER)
    assert await state(keeper, name) == "open"
    assert (await resume(keeper, name, second.holding.token)).saved == []
    assert second.saved[-1:] == [None], "it was superseded, and kept"


async def test_of_those_who_resume_at_once_one_goes_on(keeper: Keeper, name: str) -> None:
    first = Held(keeper, keeper.begin(name, OWNER))
    async with asyncio.timeout(PATIENCE):
        held = await asyncio.gather(*(resume(keeper, name, first.holding.token) for _ in range(3)))
    assert [len(one.saved) for one in held] == [1, 1, 0], "each but the last has left"
    assert await state(keeper, name) == "open"
    await held[0].save()
    assert isinstance(held[0].saved[-1], Superseded)
    keeper.leave(held[0].holding)
    assert await state(keeper, name) == "open", "who left long ago takes nobody's place"
    async with asyncio.timeout(PATIENCE):
        await keeper.delete(name, OWNER)
    assert await state(keeper, name) is None


async def test_nothing_outlives_its_deletion(keeper: Keeper, name: str) -> None:
    """Somebody is about to resume it when it is deleted."""
    first = Held(keeper, keeper.begin(name, OWNER))
    async with asyncio.timeout(PATIENCE):
        held, _ = await asyncio.gather(resume(keeper, name, first.holding.token), keeper.delete(name, OWNER))
    assert await state(keeper, name) is None
    await held.save()
    assert isinstance(held.saved[-1], Superseded | SessionDeleted)
    with pytest.raises(UnknownSession):
        await keeper.find(name, OWNER)


async def test_who_was_left_for_another_server_gives_way(redis: str, name: str) -> None:
    """It went on elsewhere and comes back, to a server that still holds it and knows neither."""
    here, there = (Keeper(RedisStore(redis, 2.0), 60.0, Metrics(), at_once) for _ in range(2))
    first = Held(here, here.begin(name, OWNER))
    await first.save()
    second = await resume(there, name, first.holding.token)
    second.holding.confirm()
    await second.save()
    async with asyncio.timeout(PATIENCE):
        third = await resume(here, name, second.holding.token)
    assert isinstance(first.saved[-1], Superseded)
    await third.save()
    assert third.saved == [None]
    for one in (here, there):
        await one.stop()
