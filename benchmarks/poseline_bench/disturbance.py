"""What a server does when more come than it can hold, and what is left when many have come and gone.

`overload`: streams arrive in an open loop until twice as many are offered as can be held. Those refused before the
upgrade (503) come back after Retry-After, with jitter, twice at most; those admitted keep sending, and each of their
frames counts, from their first. `churn`: streams are opened and closed in random order, some politely, some by hanging
up, some before they were let in; afterwards slots, tasks and file descriptors must be what they were.
"""

from __future__ import annotations

import heapq
import random
from time import perf_counter, sleep
from typing import Any

import numpy as np

from poseline_bench.load import Crowd
from poseline_bench.processes import Server
from poseline_bench.wire import Script

ARRIVING, STAYING = 4.0, 6.0
"""Seconds over which an overload's streams arrive, and for which it then goes on."""
COMES_BACK = 2
"""Times that a refused stream tries again."""
ALIVE = 64
"""Streams that a churn keeps open."""
WARM_UP = 1000
"""Streams opened and closed before a churn is measured: pools, caches and arenas have then grown as they will."""
_SETTLING = 2.0
_LONGEST = 180.0
"""Seconds after which a churn that does not end is an error of the server's."""
_TASKS = "poseline_asyncio_tasks"


def overload(server: Server, script: Script, offered: int) -> dict[str, Any]:
    """offered: different streams. admitted, given_up: of those. refused: answers, tries again included."""
    dice = random.Random(1)
    with Crowd(server.port, script) as crowd:
        begin = perf_counter()
        crowd.watch(begin, begin + ARRIVING + STAYING)
        arrivals = [(begin + dice.uniform(0, ARRIVING), 0) for _ in range(offered)]
        heapq.heapify(arrivals)
        given_up = 0
        while (now := perf_counter()) < begin + ARRIVING + STAYING:
            while arrivals and arrivals[0][0] <= now:
                crowd.open(heapq.heappop(arrivals)[1])
            crowd.tick()
            while crowd.to_retry:
                stream, after = crowd.to_retry.pop()
                if stream.tries < COMES_BACK:
                    heapq.heappush(arrivals, (perf_counter() + after * dice.uniform(1, 1.5), stream.tries + 1))
                else:
                    given_up += 1
        unanswered = crowd.settle(_SETTLING)
        latencies, admitted = crowd.latencies(), len(crowd.live)
        return {
            "offered": offered,
            "admitted": admitted + crowd.lost,
            "given_up": given_up,
            "refused": len(crowd.refused),
            "admitted_p50_ms": _percentile(latencies, 50),
            "admitted_p99_ms": _percentile(latencies, 99),
            "refusal_p99_ms": _percentile(crowd.refused, 99),
            "unanswered": unanswered,
            "lost": crowd.lost,
            "generator_late_p99_ms": _percentile(crowd.lateness(), 99),
        }


def _percentile(seconds: Any, percent: float) -> float | None:
    """In milliseconds; None of nothing."""
    return float(1e3 * np.percentile(seconds, percent)) if len(seconds) else None


def churn(server: Server, script: Script, streams: int, bytes_per_slot: int) -> dict[str, Any]:
    """Before and after: slots, fds, tasks (null where the server does not tell them); left_over sums what they differ."""
    _come_and_go(server, script, WARM_UP)
    before = _holdings(server.emptied(), bytes_per_slot)
    refused = _come_and_go(server, script, streams)
    deadline = perf_counter() + _SETTLING
    while _left_over(before, after := _holdings(server.emptied(), bytes_per_slot)) and perf_counter() < deadline:
        sleep(0.1)
    return {
        "opened": streams - refused,
        "refused": refused,
        "rss_growth_mb": (after["rss"] - before["rss"]) / 1e6,
        "left_over": _left_over(before, after),
        **{name: {"before": before[name], "after": after[name]} for name in ("slots", "fds", "tasks")},
    }


def _holdings(metrics: dict[str, float], bytes_per_slot: int) -> dict[str, Any]:
    return {
        "slots": round(metrics["poseline_state_bytes"] / bytes_per_slot),
        "fds": round(metrics["process_open_fds"]),
        "tasks": round(metrics[_TASKS]) if _TASKS in metrics else None,
        "rss": metrics["process_resident_memory_bytes"],
    }


def _left_over(before: dict[str, Any], after: dict[str, Any]) -> int:
    return sum(abs((after[name] or 0) - (before[name] or 0)) for name in ("slots", "fds", "tasks"))


def _come_and_go(server: Server, script: Script, streams: int) -> int:
    """Open so many in all, `ALIVE` at a time, and close them in random order; how many were refused.

    Raises TimeoutError where streams are left that do not end.
    """
    dice, opened, deadline = random.Random(2), 0, perf_counter() + _LONGEST
    with Crowd(server.port, script) as crowd:
        while opened < streams or crowd.size:
            if opened < streams and crowd.has_room(ALIVE):
                crowd.open()
                opened += 1
            elif crowd.size == ALIVE or opened == streams:
                crowd.close_one(dice)
            crowd.tick()
            if perf_counter() > deadline:
                raise TimeoutError(f"{crowd.size} streams did not end within {_LONGEST:g} seconds")
        return len(crowd.refused)
