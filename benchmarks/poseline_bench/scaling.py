"""What a second core brings: two threads, each with a scorer and streams of its own, against one.

Throughput in wall time, for that is what a second core is for: waiting for each other counts, and so does what they do to
each other's caches. Only the time in which the system gave a thread's core to somebody else is taken off, and of the
rounds a third counts: those with the least of it. Each thread is pinned to its core; alone, one is timed on either core.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from poseline.bundle import ModelBundle
from poseline_bench.cases import Streams
from poseline_bench.clock import cores, pinned, turns
from poseline_service.engine import open_scorer

BATCH = 64
ROUNDS = 30
STEPS = 300
"""Steps of one thread in one run: a quarter of a second."""


class Run(NamedTuple):
    """Seconds in which threads ready to run waited for their core, and steps a second of all threads without them."""

    waited: float
    rate: float


def two_core_scaling(bundle: ModelBundle) -> float | None:
    """Throughput of two threads over that of one, median over the quieter rounds; None on a machine with one core."""
    if len(cores()) < 2:
        return None
    one, other = sorted(cores())[-2:]
    streams = {core: Streams(bundle, open_scorer(bundle, BATCH), BATCH) for core in (one, other)}
    rounds: list[tuple[float, float]] = []
    with threadpool_limits(1), turns(ROUNDS) as turn:
        for _ in range(ROUNDS):
            turn("two cores")
            alone = [_run({core: streams[core]}) for core in (one, other)]
            both = _run(streams)
            waited = both.waited + sum(run.waited for run in alone)
            rounds.append((waited, both.rate / float(np.mean([run.rate for run in alone]))))
    quiet = sorted(rounds)[: max(1, ROUNDS // 3)]
    return float(np.median([ratio for _, ratio in quiet]))


def _run(streams: dict[int, Streams]) -> Run:
    """core → streams: one thread each, begun together."""
    together = threading.Barrier(len(streams))
    waited: list[float] = []
    rates: list[float] = []

    def work(core: int, step: Streams) -> None:
        with pinned({core}):
            for _ in range(STEPS // 10):
                step()
            together.wait()
            begun, before = time.perf_counter(), _waited()
            for _ in range(STEPS):
                step()
            lost = _waited() - before
            waited.append(lost)
            rates.append(STEPS / (time.perf_counter() - begun - lost))

    threads = [threading.Thread(target=work, args=one) for one in streams.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Run(sum(waited), sum(rates))


def _waited() -> float:
    """Seconds that this thread has waited for a core although it could run (Linux; elsewhere 0)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
