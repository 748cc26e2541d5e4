"""Events on their way to webhook targets: waiting until they are due, confirmed or given up. In memory, or in Redis.

Whoever takes a delivery has it for the time of a *lease*; if neither `done` nor `again` is said by then, because its server
died, it is due again, for any server. So an event comes at least once, however often servers are killed. Each target's
events wait apart, so many at the most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush
from time import time
from typing import Protocol

from msgspec import Struct, msgpack, structs

from poseline_service.redis import Redis


class Delivery(Struct, frozen=True):
    """An event for one target. body: as it will be sent. posted: Unix seconds. attempts: that have failed."""

    target: str
    event_id: str
    body: bytes
    posted: float
    attempts: int = 0


class DeliveryQueue(Protocol):
    """All raise StoreUnavailable."""

    async def add(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Due at once, unless they are there already. Those for which there was no room come back."""
        ...

    async def take(self, target: str, most: int, lease: float) -> tuple[list[Delivery], int]:
        """Those that are due, the longest waiting first, for so many seconds; and how many wait in all."""
        ...

    async def done(self, delivery: Delivery) -> None:
        """It has arrived, or is given up."""
        ...

    async def again(self, delivery: Delivery, seconds: float) -> None:
        """It failed once more, and is due in so many seconds."""
        ...

    def hasten(self) -> list[Delivery]:
        """This process ends: what would end with it is due now, and comes back."""
        ...

    async def close(self) -> None: ...


class _Waiting:
    """One target's deliveries. The heap may hold what is no longer so; what is due is told by the dictionary alone."""

    def __init__(self) -> None:
        self.events: dict[str, tuple[float, Delivery]] = {}
        self._heap: list[tuple[float, str]] = []

    def put(self, due: float, delivery: Delivery) -> None:
        self.events[delivery.event_id] = due, delivery
        heappush(self._heap, (due, delivery.event_id))

    def take(self, now: float) -> Delivery | None:
        while self._heap and self._heap[0][0] <= now:
            due, name = heappop(self._heap)
            found = self.events.get(name)
            if found and found[0] == due:
                return found[1]
        return None


class MemoryQueue:
    """Deliveries of this process, which end with it. limit: for each target."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._targets = defaultdict[str, _Waiting](_Waiting)

    async def add(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        refused: list[Delivery] = []
        for one in deliveries:
            waiting = self._targets[one.target]
            if one.event_id in waiting.events:
                continue
            if len(waiting.events) < self._limit:
                waiting.put(time(), one)
            else:
                refused.append(one)
        return refused

    async def take(self, target: str, most: int, lease: float) -> tuple[list[Delivery], int]:
        now, waiting = time(), self._targets[target]
        taken: list[Delivery] = []
        while len(taken) < most and (one := waiting.take(now)):
            taken.append(one)
            waiting.put(now + lease, one)
        return taken, len(waiting.events)

    async def done(self, delivery: Delivery) -> None:
        self._targets[delivery.target].events.pop(delivery.event_id, None)

    async def again(self, delivery: Delivery, seconds: float) -> None:
        self._targets[delivery.target].put(time() + seconds, _failed(delivery))

    def hasten(self) -> list[Delivery]:
        every = [one for waiting in self._targets.values() for _, one in waiting.events.values()]
        for one in every:
            self._targets[one.target].put(time(), one)
        return every

    async def close(self) -> None:
        self._targets.clear()


def _failed(delivery: Delivery) -> Delivery:
    return structs.replace(delivery, attempts=delivery.attempts + 1)


# Each target has a sorted set (event → when it is due, by the store's own clock) and a hash (event → delivery).
_ADD = """
local now, refused = redis.call('TIME')[1], {}
for i = 3, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[1]) then
      refused[#refused + 1] = ARGV[i]
    else
      redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
      redis.call('ZADD', KEYS[1], now, ARGV[i])
    end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return refused
"""
_TAKE = """
local time = redis.call('TIME')
local now, found = time[1] + time[2] / 1e6, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], now + ARGV[2], name)
  found[#found + 1] = redis.call('HGET', KEYS[2], name)
end
return {found, redis.call('ZCARD', KEYS[1])}
"""
_DONE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
"""
_AGAIN = """
local time = redis.call('TIME')
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1e6 + ARGV[3], ARGV[1])
"""


class RedisQueue:
    """Deliveries that outlive this process. limit: for each target. seconds: after which nobody will want them any more, so
    that nothing stays for ever of a target that no server knows."""

    def __init__(self, redis: Redis, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, int(seconds) + 1
        self._redis = redis
        self._add, self._take = redis.script(_ADD), redis.script(_TAKE)
        self._done, self._again = redis.script(_DONE), redis.script(_AGAIN)

    async def add(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        refused: list[Delivery] = []
        for target in {one.target for one in deliveries}:
            theirs = {one.event_id: one for one in deliveries if one.target == target}
            named = [part for one in theirs.values() for part in (one.event_id, msgpack.encode(one))]
            names: list[bytes] = await self._add(_keys(target), [self._limit, self._seconds, *named])
            refused += [theirs[name.decode()] for name in names]
        return refused

    async def take(self, target: str, most: int, lease: float) -> tuple[list[Delivery], int]:
        found, waiting = await self._take(_keys(target), [most, lease])
        return [msgpack.decode(one, type=Delivery) for one in found], waiting

    async def done(self, delivery: Delivery) -> None:
        await self._done(_keys(delivery.target), [delivery.event_id])

    async def again(self, delivery: Delivery, seconds: float) -> None:
        await self._again(_keys(delivery.target), [delivery.event_id, msgpack.encode(_failed(delivery)), seconds])

    def hasten(self) -> list[Delivery]:
        return []  # the next server goes on with them

    async def close(self) -> None:
        await self._redis.close()


def _keys(target: str) -> tuple[str, str]:
    return f"poseline:webhook:{target}:due", f"poseline:webhook:{target}:events"
