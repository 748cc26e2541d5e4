"""The store in this process: one holder, so many bytes, and what is over is told for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from poseline_service import states
from poseline_service.errors import SessionDeleted, SessionExpired, Superseded, UnknownSession
from poseline_service.states import MemoryStore, RedisStore, State, StateStore

KEYS = (b"key",)


async def test_who_was_superseded_saves_no_more() -> None:
    store = MemoryStore(1000)
    await store.save("a", 1, State(b"first", KEYS), 60)
    assert await store.claim("a", b"key") == (2, b"first")
    with pytest.raises(Superseded):
        await store.save("a", 1, State(b"stale", KEYS), 60)
    await store.forget("a", 1)
    assert await store.claim("a", b"key") == (3, b"first")
    await store.forget("a", 3)
    with pytest.raises(UnknownSession):
        await store.claim("a", b"key")


async def test_a_wrong_key_changes_nothing() -> None:
    store = MemoryStore(1000)
    await store.save("a", 1, State(b"first", KEYS), 60)
    with pytest.raises(UnknownSession):
        await store.claim("a", b"other")
    await store.save("a", 1, State(b"second", KEYS), 60)
    assert await store.claim("a", b"key") == (2, b"second")


async def test_where_there_is_no_room_the_oldest_goes() -> None:
    store = MemoryStore(250)
    for name in "abc":
        await store.save(name, 1, State(bytes(100), KEYS), 60)
    with pytest.raises(SessionExpired):
        await store.claim("a", b"key")
    assert [(await store.claim(name, b"key"))[0] for name in "bc"] == [2, 2]


async def test_what_is_over_is_told_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(states, "monotonic", lambda: now)
    store = MemoryStore(1000)
    await store.save("a", 1, State(b"first", KEYS), 60)
    now = 61.0
    with pytest.raises(SessionExpired):
        await store.claim("a", b"key")
    with pytest.raises(UnknownSession):
        await store.claim("a", b"other")
    now = 700.0
    with pytest.raises(UnknownSession):
        await store.claim("a", b"key")


async def test_a_session_that_went_on_for_long_is_kept_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved at its first break is over long before the second one."""
    now = 0.0
    monkeypatch.setattr(states, "monotonic", lambda: now)
    store = MemoryStore(1000)
    await store.save("a", 1, State(b"first", KEYS), 60)
    epoch, _ = await store.claim("a", b"key")
    now = 300.0
    await store.save("b", 1, State(b"other", KEYS), 60)
    with pytest.raises(Superseded):
        await store.save("a", 1, State(b"stale", KEYS), 60)
    await store.save("a", epoch, State(b"second", (b"next",)), 60)
    assert await store.claim("a", b"next") == (epoch + 1, b"second")


async def test_what_is_over_is_forgotten_though_nobody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(states, "monotonic", lambda: now)
    store = MemoryStore(1000)
    await store.save("a", 1, State(b"first", KEYS), 60)
    store.tidy()
    assert store.bytes == 5
    now = 61.0
    store.tidy()
    assert store.bytes == 0


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis: str) -> AsyncIterator[StateStore]:
    store = MemoryStore(1000) if request.param == "memory" else RedisStore(redis, 2.0)
    yield store
    await store.close()


async def test_what_was_forgotten_nobody_saves(store: StateStore) -> None:
    """Its client has heard how it ended: neither who was superseded before may save it, nor who ended it."""
    await store.save("forgotten", 1, State(b"first", KEYS, "me"), 60)
    epoch, _ = await store.claim("forgotten", b"key")
    await store.forget("forgotten", epoch)
    for holder in (1, epoch):
        with pytest.raises(Superseded):
            await store.save("forgotten", holder, State(b"stale", KEYS, "me"), 60)
    assert await store.owned("me") == []
    with pytest.raises(UnknownSession):
        await store.claim("forgotten", b"key")


@pytest.mark.parametrize("before", ["kept", "forgotten"])
async def test_what_was_deleted_nobody_saves(store: StateStore, before: str) -> None:
    name = f"deleted, {before} before"
    await store.save(name, 1, State(b"first", KEYS, "me"), 60)
    assert not await store.delete(name, "another")
    if before == "forgotten":
        await store.forget(name, 1)
    assert await store.delete(name, "me") == (before == "kept")
    await store.forget(name, 1)
    with pytest.raises(SessionDeleted):
        await store.save(name, 1, State(b"stale", KEYS, "me"), 60)
    with pytest.raises(UnknownSession):
        await store.claim(name, b"key")
    assert not await store.delete(name, "me")
    assert await store.owned("me") == []


async def test_what_was_put_is_taken_once_and_in_time(store: StateStore) -> None:
    await store.put("ticket:a", b"\x00a", 60.0)
    await store.put("ticket:b", b"b", 0.05)
    await asyncio.sleep(0.1)
    assert [await store.take(name) for name in ("ticket:a", "ticket:a", "ticket:b", "ticket:c")] == [
        b"\x00a",
        None,
        None,
        None,
    ]
