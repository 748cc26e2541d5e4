"""What a server holds, and what is left of it once everybody has gone."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter, sleep

import httpx

from poseline_bench.processes import Server

_SETTLING = 30.0
_SIGNS = ("Traceback", '"level": "error"', '"level": "critical"', "internal")
_GONE = ("sessions", "state_bytes")
_STAYING = ("tasks", "fds")

Held = dict[str, float]


def held(metrics: dict[str, float]) -> Held:
    """sessions, state_bytes, tasks, fds, rss_mb: by the server's own metrics."""
    return {
        "sessions": metrics["poseline_sessions_active"],
        "state_bytes": metrics["poseline_state_bytes"],
        "tasks": metrics["poseline_asyncio_tasks"],
        "fds": metrics["process_open_fds"],
        "rss_mb": metrics["process_resident_memory_bytes"] / 1e6,
    }


def settled(server: Server, before: Held | None = None, *, seconds: float = 5.0) -> Held:
    """What it holds once nobody is connected and, `seconds` later, nobody can come back. Given what it held before: as soon
    as it is no more than that, or when it has had time enough."""
    sleep(seconds)
    deadline = perf_counter() + _SETTLING
    while True:
        found = held(server.emptied())
        if before is None or not list(left_over(before, found)) or perf_counter() > deadline:
            return found
        sleep(0.5)


def left_over(before: Held, after: Held) -> Iterator[str]:
    """What there is more of than there was, or than nothing."""
    for name in (*_GONE, *_STAYING):
        if after[name] > (before[name] if name in _STAYING else 0):
            yield f"{name}: {before[name]:g} before, {after[name]:g} after"


def faults(server: Server) -> list[str]:
    """Lines of its log that tell of a fault of its own, and whether it is no longer ready."""
    lines = [line for line in server.log().splitlines() if any(sign in line for sign in _SIGNS)]
    status = httpx.get(f"{server.url}/readyz").status_code
    return lines if status == 200 else [*lines, f"/readyz answers {status}"]
