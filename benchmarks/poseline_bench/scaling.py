"""What a second core brings: two threads, each with a scorer and streams of its own, against one.

Throughput in wall time, for that is what a second core is for. Each thread is pinned to its core. One thread alone is
timed on either core, so that a core with a busy neighbour does not flatter the two.
"""

from __future__ import annotations

import threading
import time

import numpy as np
from threadpoolctl import threadpool_limits

from poseline.bundle import ModelBundle
from poseline_bench.cases import Streams
from poseline_bench.clock import cores, pinned, turns
from poseline_service.engine import open_scorer

BATCH = 64
ROUNDS = 15
STEPS = 400
"""Steps of one thread in one round: about a third of a second."""


def two_core_scaling(bundle: ModelBundle) -> float | None:
    """Throughput of two threads over that of one, median over the rounds; None on a machine with one core."""
    if len(cores()) < 2:
        return None
    one, other = sorted(cores())[-2:]
    streams = {core: Streams(bundle, open_scorer(bundle, BATCH), BATCH) for core in (one, other)}
    ratios: list[float] = []
    with threadpool_limits(1), turns(ROUNDS) as turn:
        for _ in range(ROUNDS):
            turn("two cores")
            alone = [_steps_per_second({core: streams[core]}) for core in (one, other)]
            ratios.append(_steps_per_second(streams) / float(np.mean(alone)))
    return float(np.median(ratios))


def _steps_per_second(streams: dict[int, Streams]) -> float:
    """core → streams: one thread each, begun together; steps of all of them until the last has ended."""
    together = threading.Barrier(len(streams))
    begun: list[float] = []
    ended: list[float] = []

    def work(core: int, step: Streams) -> None:
        with pinned({core}):
            for _ in range(STEPS // 10):
                step()
            together.wait()
            begun.append(time.perf_counter())
            for _ in range(STEPS):
                step()
            ended.append(time.perf_counter())

    threads = [threading.Thread(target=work, args=one) for one in streams.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return STEPS * len(streams) / (max(ended) - min(begun))
