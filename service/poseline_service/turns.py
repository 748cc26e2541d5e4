"""Fairness between connections: who sends much at once gets on in small shares, so that nobody waits behind all of it.

One read of a socket may hold ten thousand messages. A connection takes `AT_ONCE` of them, and what is left waits here: in
each turn of the event loop those who wait get one share after another, in turn, until `_SECONDS` are spent together. So a
flood slows itself down, and others by no more than that, however many flood.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

AT_ONCE = 16
"""Messages in a share: at 30 a second, half a second of a stream."""
_SECONDS = 0.001

Share = Callable[[], bool]
"""Takes one share; whether more is left."""


class Turns:
    """Those who wait for their next share."""

    def __init__(self) -> None:
        self._waiting: deque[Share] = deque()

    def add(self, share: Share) -> None:
        self._waiting.append(share)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        until = perf_counter() + _SECONDS
        while self._waiting:
            share = self._waiting[0]
            more = share()
            self._waiting.popleft()
            if more:
                self._waiting.append(share)
            if perf_counter() > until:
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
