"""Where sessions rest that have no connection, or that must outlive their server: the memory of this process, or Redis.

A state has one holder, named by its *epoch*. Who resumes a session claims it with one of its keys: the epoch rises, and
whoever held it before can save no more (`Superseded`), also where it still runs, cut off from its client, and does not
know. What is kept is sealed (`poseline.sealing`) and forgotten when its time is over; that it was there is known for a
while longer, so that a client that comes too late is told so, and that whoever held it before still saves no more.
"""

from __future__ import annotations

from itertools import islice
from time import monotonic, time
from typing import Protocol

from msgspec import Struct

from poseline_service.errors import SessionDeleted, SessionExpired, StoreUnavailable, Superseded, UnknownSession
from poseline_service.redis import Redis
from poseline_service.settings import ServiceSettings

_REMEMBERED = 600.0
"""Seconds for which it is known that a state was there."""
_DELETED = 86_400
"""Seconds for which no server can save a session that was deleted: one that has it may say nothing for long."""
LISTED = 1000
"""States in a list, at the most."""
_MANY_SMALL = 16_384
"""Small things that are kept in memory at a time."""


class State(Struct, frozen=True):
    """content: what is kept. keys: hashes of the tokens that may claim it; one or two. owner: who may see and delete it.
    about: what a list says of it."""

    content: bytes
    keys: tuple[bytes, ...]
    owner: str = ""
    about: bytes = b""


class StateStore(Protocol):
    durable: bool
    """What is kept outlives this process."""

    async def save(self, name: str, epoch: int, state: State, seconds: float) -> None:
        """Keep it for so long. Raises Superseded, SessionDeleted, StoreUnavailable."""
        ...

    async def claim(self, name: str, key: bytes) -> tuple[int, bytes]:
        """A new epoch, and what was saved last. Raises UnknownSession, also for a wrong key; SessionExpired,
        StoreUnavailable."""
        ...

    async def forget(self, name: str, epoch: int) -> None:
        """It is needed no more. Raises StoreUnavailable."""
        ...

    async def owned(self, owner: str) -> list[tuple[bytes, float]]:
        """What is kept of an owner, at most `LISTED`, those that are kept longest first: about, and until when (Unix time).
        Raises StoreUnavailable."""
        ...

    async def read(self, name: str, owner: str) -> tuple[bytes, float] | None:
        """What was saved last, and until when it is kept; None where this owner has no such. Raises StoreUnavailable."""
        ...

    async def delete(self, name: str, owner: str) -> bool:
        """Keep it no more, and take no more of it from whoever holds it; False where this owner has no such. Raises
        StoreUnavailable."""
        ...

    async def put(self, name: str, content: bytes, seconds: float) -> None:
        """Something small, for whoever takes it first, within so many seconds. Raises StoreUnavailable."""
        ...

    async def take(self, name: str) -> bytes | None:
        """It, once; None where nobody put it, or its time is over. Raises StoreUnavailable."""
        ...

    def tidy(self) -> None:
        """Forget what is over, if it does not do so by itself."""
        ...

    async def close(self) -> None: ...


class _Kept(Struct):
    """until: by the monotonic clock. gone: the same moment as Unix time."""

    epoch: int
    state: State
    until: float
    gone: float


class _Over(Struct):
    """What is known of a state that is gone. keys: of those who are told that it expired. until: by the monotonic clock."""

    epoch: int
    owner: str
    until: float
    keys: tuple[bytes, ...] = ()
    deleted: bool = False


class MemoryStore:
    """States in this process, so many bytes of them: where there is no room, the oldest goes."""

    durable = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[str, _Kept] = {}
        """In the order in which they were saved, so what is over stands first: nobody looks at all of them."""
        self._over: dict[str, _Over] = {}
        """In the order in which they went."""
        self.bytes = 0
        """Of all that is kept."""
        self._small: dict[str, tuple[float, bytes]] = {}

    async def save(self, name: str, epoch: int, state: State, seconds: float) -> None:
        over = self._over.get(name)
        if over and over.deleted:
            raise SessionDeleted("this session was deleted")
        known = self._kept.get(name) or over
        if known and known.epoch > epoch:
            raise Superseded("this session goes on elsewhere")
        self._drop(name)
        self._kept[name] = _Kept(epoch, state, monotonic() + seconds, time() + seconds)
        self.bytes += len(state.content)
        self.tidy()

    async def claim(self, name: str, key: bytes) -> tuple[int, bytes]:
        self.tidy()
        if (over := self._over.get(name)) and key in over.keys:
            raise _expired(name)
        known = self._kept.get(name)
        if known is None or key not in known.state.keys:
            raise not_resumable(name)
        known.epoch += 1
        return known.epoch, known.state.content

    async def forget(self, name: str, epoch: int) -> None:
        known = self._kept.get(name)
        if known and known.epoch <= epoch:
            self._bury(name, _Over(epoch + 1, known.state.owner, _remembered()))

    async def owned(self, owner: str) -> list[tuple[bytes, float]]:
        self.tidy()
        theirs = (one for one in reversed(self._kept.values()) if one.state.owner == owner)
        return [(one.state.about, one.gone) for one in islice(theirs, LISTED)]

    async def read(self, name: str, owner: str) -> tuple[bytes, float] | None:
        self.tidy()
        known = self._kept.get(name)
        return (known.state.content, known.gone) if known and known.state.owner == owner else None

    async def delete(self, name: str, owner: str) -> bool:
        self.tidy()
        known, over = self._kept.get(name), self._over.get(name)
        if owner == (known.state.owner if known else over.owner if over else None):
            self._bury(name, _Over(0, owner, _remembered(), deleted=True))
            return known is not None
        return False

    async def put(self, name: str, content: bytes, seconds: float) -> None:
        now = monotonic()
        if len(self._small) >= _MANY_SMALL:
            self._small = {name: one for name, one in self._small.items() if one[0] > now}
        if len(self._small) >= _MANY_SMALL:
            raise StoreUnavailable("too much was put here that nobody took")
        self._small[name] = now + seconds, content

    async def take(self, name: str) -> bytes | None:
        until, content = self._small.pop(name, (0.0, b""))
        return content if until > monotonic() else None

    async def close(self) -> None:
        self._kept.clear()
        self._over.clear()
        self.bytes = 0

    def _drop(self, name: str) -> None:
        if name in self._kept:
            self.bytes -= len(self._kept.pop(name).state.content)
        self._over.pop(name, None)

    def _bury(self, name: str, over: _Over) -> None:
        self._drop(name)
        self._over[name] = over

    def tidy(self) -> None:
        """Forget what is over, and what was saved first as long as there is too much."""
        now = monotonic()
        while self._kept:
            name, first = next(iter(self._kept.items()))
            if first.until >= now and self.bytes <= self._limit:
                break
            self._bury(name, _Over(first.epoch, first.state.owner, _remembered(), first.state.keys))
        while self._over and next(iter(self._over.values())).until < now:
            self._over.pop(next(iter(self._over)))


# KEYS: a session (its epoch, owner and keys: remembered for a while), its state (gone in time), its owner's sessions (by
# when they are gone). ARGV of a save: epoch, content, about, milliseconds for which it is kept, and remembered, name, owner,
# keys.
_SAVE = """
if redis.call('HEXISTS', KEYS[1], 'deleted') == 1 then return 'deleted' end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch > tonumber(ARGV[1]) then return 'superseded' end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local till = now + ARGV[4] / 1e3
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'owner', ARGV[7])
for i = 8, #ARGV do redis.call('HSET', KEYS[1], 'key:' .. ARGV[i], '') end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('HSET', KEYS[2], 'content', ARGV[2], 'about', ARGV[3], 'until', till)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('ZADD', KEYS[3], till, ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return 'saved'
"""
_CLAIM = """
if redis.call('HEXISTS', KEYS[1], 'key:' .. ARGV[1]) == 0 then return 'unknown' end
local content = redis.call('HGET', KEYS[2], 'content')
if not content then return 'expired' end
return {redis.call('HINCRBY', KEYS[1], 'epoch', 1), content}
"""
_FORGET = """
local known = redis.call('HMGET', KEYS[1], 'epoch', 'owner')
if not known[1] or tonumber(known[1]) > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1] + 1, 'owner', known[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_OWNED = """
local found = {}
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[3], 0, -1)) do
  local kept = redis.call('HMGET', KEYS[2] .. name, 'about', 'until')
  if kept[1] then found[#found + 1] = kept else redis.call('ZREM', KEYS[3], name) end
  if #found == tonumber(ARGV[1]) then break end
end
return found
"""
_READ = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {false} end
return redis.call('HMGET', KEYS[2], 'content', 'until')
"""
_DELETE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
local found = redis.call('DEL', KEYS[2])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'deleted', '')
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[3])
return found
"""
_PUT = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"
_TAKE = "return redis.call('GETDEL', KEYS[1])"


class RedisStore:
    """States in a server that speaks Redis' protocol. Each step is one script, so no other can come between."""

    durable = True

    def __init__(self, url: str, timeout: float) -> None:
        self._redis = redis = Redis(url, timeout)
        self._save, self._claim, self._forget = map(redis.script, (_SAVE, _CLAIM, _FORGET))
        self._owned, self._read, self._delete = map(redis.script, (_OWNED, _READ, _DELETE))
        self._put, self._take = map(redis.script, (_PUT, _TAKE))

    async def save(self, name: str, epoch: int, state: State, seconds: float) -> None:
        kept, remembered = (max(1, int(1000 * one)) for one in (seconds, seconds + _REMEMBERED))
        args = epoch, state.content, state.about, kept, remembered, name, state.owner, *state.keys
        saved = await self._save(_keys(name, state.owner), args)
        if saved == b"superseded":
            raise Superseded("this session goes on elsewhere")
        if saved == b"deleted":
            raise SessionDeleted("this session was deleted")

    async def claim(self, name: str, key: bytes) -> tuple[int, bytes]:
        found = await self._claim(_keys(name), [key])
        if found == b"unknown":
            raise not_resumable(name)
        if found == b"expired":
            raise _expired(name)
        return found[0], found[1]

    async def forget(self, name: str, epoch: int) -> None:
        await self._forget(_keys(name), [epoch, int(1000 * _REMEMBERED)])

    async def owned(self, owner: str) -> list[tuple[bytes, float]]:
        return [(about, float(until)) for about, until in await self._owned(_keys("", owner), [LISTED])]

    async def read(self, name: str, owner: str) -> tuple[bytes, float] | None:
        found = await self._read(_keys(name), [owner])
        return (found[0], float(found[1])) if found[0] is not None else None

    async def delete(self, name: str, owner: str) -> bool:
        return bool(await self._delete(_keys(name, owner), [owner, _DELETED, name]))

    async def put(self, name: str, content: bytes, seconds: float) -> None:
        await self._put([f"poseline:{name}"], [content, int(1000 * seconds)])

    async def take(self, name: str) -> bytes | None:
        return await self._take([f"poseline:{name}"], [])

    def tidy(self) -> None:
        """It does: every state expires."""

    async def close(self) -> None:
        await self._redis.close()


def _keys(name: str, owner: str = "") -> list[str]:
    return [f"poseline:session:{name}", f"poseline:state:{name}", f"poseline:sessions:{owner}"]


def _remembered() -> float:
    return monotonic() + _REMEMBERED


def not_resumable(name: str) -> UnknownSession:
    """Nobody learns whether it is the name or the token that is wrong."""
    return UnknownSession(f"no session {name} can be resumed here with this token")


def _expired(name: str) -> SessionExpired:
    return SessionExpired(f"session {name} was kept for a while after its connection had ended; that is over")


def open_store(settings: ServiceSettings) -> StateStore:
    """Raises InputError for an address that is none."""
    if settings.state_url is None:
        return MemoryStore(settings.state_memory_bytes)
    return RedisStore(settings.state_url, settings.state_timeout)
