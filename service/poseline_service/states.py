"""Where sessions rest that have no connection, or that must outlive their server: the memory of this process, or Redis.

A state has one holder, named by its *epoch*. Who resumes a session claims it with one of its keys: the epoch rises, and
whoever held it before can save no more (`Superseded`), also where it still runs, cut off from its client, and does not
know. What is kept is sealed (`poseline.sealing`) and forgotten when its time is over; that it was there is known for a
while longer, so that a client that comes too late is told so.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Protocol

from msgspec import Struct

from poseline_service.errors import SessionExpired, Superseded, UnknownSession
from poseline_service.redis import Redis, Script
from poseline_service.settings import ServiceSettings

_REMEMBERED = 600.0
"""Seconds for which it is known that a state was there."""


class State(Struct, frozen=True):
    """content: what is kept. keys: hashes of the tokens that may claim it; one or two."""

    content: bytes
    keys: tuple[bytes, ...]


class StateStore(Protocol):
    durable: bool
    """What is kept outlives this process."""

    async def save(self, name: str, epoch: int, state: State, seconds: float) -> None:
        """Keep it for so long. Raises Superseded, StoreUnavailable."""
        ...

    async def claim(self, name: str, key: bytes) -> tuple[int, bytes]:
        """A new epoch, and what was saved last. Raises UnknownSession, also for a wrong key; SessionExpired,
        StoreUnavailable."""
        ...

    async def forget(self, name: str, epoch: int) -> None:
        """It is needed no more. Raises StoreUnavailable."""
        ...

    def tidy(self) -> None:
        """Forget what is over, if it does not do so by itself."""
        ...

    async def close(self) -> None: ...


class _Kept(Struct):
    epoch: int
    content: bytes
    keys: tuple[bytes, ...]
    until: float


class MemoryStore:
    """States in this process, so many bytes of them: where there is no room, the oldest goes."""

    durable = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[str, _Kept] = {}
        """In the order in which they were saved, so what is over stands first: nobody looks at all of them."""
        self._over: dict[str, _Kept] = {}
        """Whose content is gone, in the order in which it went."""
        self.bytes = 0
        """Of all that is kept."""

    async def save(self, name: str, epoch: int, state: State, seconds: float) -> None:
        known = self._kept.get(name) or self._over.get(name)
        if known and known.epoch > epoch:
            raise Superseded("this session goes on elsewhere")
        self._drop(name)
        self._over.pop(name, None)
        self._kept[name] = _Kept(epoch, state.content, state.keys, monotonic() + seconds)
        self.bytes += len(state.content)
        self.tidy()

    async def claim(self, name: str, key: bytes) -> tuple[int, bytes]:
        self.tidy()
        if (gone := self._over.get(name)) and key in gone.keys:
            raise _expired(name)
        known = self._kept.get(name)
        if known is None or key not in known.keys:
            raise _unknown(name)
        known.epoch += 1
        return known.epoch, known.content

    async def forget(self, name: str, epoch: int) -> None:
        known = self._kept.get(name)
        if known and known.epoch <= epoch:
            self._drop(name)

    async def close(self) -> None:
        self._kept.clear()
        self._over.clear()
        self.bytes = 0

    def _drop(self, name: str) -> None:
        if name in self._kept:
            self.bytes -= len(self._kept.pop(name).content)

    def tidy(self) -> None:
        """Forget what is over, and what was saved first as long as there is too much."""
        now = monotonic()
        while self._kept:
            name, first = next(iter(self._kept.items()))
            if first.until >= now and self.bytes <= self._limit:
                break
            self._drop(name)
            self._over[name] = _Kept(first.epoch, b"", first.keys, now + _REMEMBERED)
        while self._over and next(iter(self._over.values())).until < now:
            self._over.pop(next(iter(self._over)))


_SAVE = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'state', ARGV[2], 'until', redis.call('TIME')[1] + ARGV[3])
for i = 5, #ARGV do redis.call('HSET', KEYS[1], 'key:' .. ARGV[i], '') end
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[3] + ARGV[4]))
return 1
"""
_CLAIM = """
local found = redis.call('HMGET', KEYS[1], 'state', 'until', 'key:' .. ARGV[1])
if not found[1] or not found[3] then return 'unknown' end
if tonumber(found[2]) < tonumber(redis.call('TIME')[1]) then return 'expired' end
return {redis.call('HINCRBY', KEYS[1], 'epoch', 1), found[1]}
"""
_FORGET = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch <= tonumber(ARGV[1]) then redis.call('DEL', KEYS[1]) end
return 1
"""


class RedisStore:
    """States in a server that speaks Redis' protocol. Each step is one script, so no other can come between."""

    durable = True

    def __init__(self, url: str, timeout: float) -> None:
        self._redis = redis = Redis(url, timeout)
        self._save, self._claim, self._forget = map(redis.script, (_SAVE, _CLAIM, _FORGET))

    async def save(self, name: str, epoch: int, state: State, seconds: float) -> None:
        saved = await self._run(self._save, name, epoch, state.content, int(seconds), int(_REMEMBERED), *state.keys)
        if not saved:
            raise Superseded("this session goes on elsewhere")

    async def claim(self, name: str, key: bytes) -> tuple[int, bytes]:
        found = await self._run(self._claim, name, key)
        if found == b"unknown":
            raise _unknown(name)
        if found == b"expired":
            raise _expired(name)
        return found[0], found[1]

    async def forget(self, name: str, epoch: int) -> None:
        await self._run(self._forget, name, epoch)

    def tidy(self) -> None:
        """It does: every state expires."""

    async def close(self) -> None:
        await self._redis.close()

    async def _run(self, script: Script, name: str, *args: Any) -> Any:
        return await script([f"poseline:session:{name}"], args)


def _unknown(name: str) -> UnknownSession:
    return UnknownSession(f"no session {name} can be resumed here with this token")


def _expired(name: str) -> SessionExpired:
    return SessionExpired(f"session {name} was kept for a while after its connection had ended; that is over")


def open_store(settings: ServiceSettings) -> StateStore:
    """Raises InputError for an address that is none."""
    if settings.state_url is None:
        return MemoryStore(settings.state_memory_bytes)
    return RedisStore(settings.state_url, settings.state_timeout)
