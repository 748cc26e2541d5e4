"""Time, taken so that a noisy machine and the cases' own neighbours change the answer as little as they can.

Named cases enter, their cost by round leaves. All cases take turns, round after round, on one core: whatever slows the
machine for a while slows them all, and a ratio is taken within a round. Each turn is a burst, begun with calls that are
not timed, so that a case finds its own weights in the caches and not its predecessor's. What is counted is this
process' CPU time as the operating system accounts for it, all threads together: a thread that spins unseen is paid for.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress
from threadpoolctl import threadpool_limits

Case = Callable[[], object]

ROUNDS = 9
BURST = 0.12
"""Seconds of one case in one round: some hundred steps, many times what refilling a cache takes."""
_WARM_UP = 0.2
"""Untimed share of a burst before the timed one."""


@dataclass(frozen=True)
class Timings:
    """case → CPU seconds of one call, one number per round."""

    rounds: dict[str, list[float]]

    def seconds(self, case: str) -> float:
        """Median over the rounds."""
        return float(np.median(self.rounds[case]))

    def spread(self, case: str) -> float:
        """Half of the range between the quartiles, as a share of the median."""
        low, middle, high = np.percentile(self.rounds[case], (25, 50, 75))
        return float((high - low) / 2 / middle)

    def ratio(self, slow: str, fast: str) -> float:
        """How many times `slow` costs what `fast` does: the median over the rounds of the ratio in each."""
        return float(np.median(np.divide(self.rounds[slow], self.rounds[fast])))


def interleave(cases: dict[str, Case]) -> Timings:
    """Every case once in every round, after one burst of each that only counts calls."""
    found = Timings({name: [] for name in cases})
    with turns((1 + ROUNDS) * len(cases)) as turn:
        calls: dict[str, int] = {}
        for name, case in cases.items():
            turn(f"warming up {name}")
            calls[name] = _calls_in_a_burst(case)
        for _ in range(ROUNDS):
            for name, case in cases.items():
                turn(name)
                _repeat(case, max(1, round(_WARM_UP * calls[name])))
                found.rounds[name].append(_repeat(case, calls[name]) / calls[name])
    return found


@contextlib.contextmanager
def turns(total: int) -> Iterator[Callable[[str], None]]:
    """A bar of progress that is drawn when a turn begins and never during one; call it with the turn's name."""
    with Progress(transient=True, auto_refresh=False) as progress:
        bar = progress.add_task("", total=total)

        def turn(name: str) -> None:
            progress.update(bar, description=name, advance=1, refresh=True)

        yield turn


def _calls_in_a_burst(case: Case) -> int:
    _repeat(case, 2)
    calls = 1
    while (taken := _repeat(case, calls)) < BURST / 4:
        calls *= 2
    return max(1, round(calls * BURST / taken))


def _repeat(case: Case, calls: int) -> float:
    begun = time.process_time()
    for _ in range(calls):
        case()
    return time.process_time() - begun


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """One thread on the last core, where the system can pin it: numpy's BLAS gets no other, and torch neither."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), pinned({max(cores())}):
            yield
    finally:
        torch.set_num_threads(threads)


def cores() -> set[int]:
    """Those that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@contextlib.contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """The calling thread on these cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
