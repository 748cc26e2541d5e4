"""A line that can be cut, for tests: `Relay`, and one for tests that have no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from poseline_bench.relay import Relay

__all__ = ["Relay", "relayed"]


@contextmanager
def relayed(port: int) -> Iterator[Relay]:
    """A relay in a loop of its own, for tests without one: `relay.loop.call_soon_threadsafe(relay.cut)`."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    relay = asyncio.run_coroutine_threadsafe(Relay(port).__aenter__(), loop).result()
    relay.loop = loop
    try:
        yield relay
    finally:
        asyncio.run_coroutine_threadsafe(relay.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
