"""What one stream-frame costs the engine, beside what the same core can do at best in the same run.

All cases are interleaved round-robin in one process on one core; medians over the rounds. CPU time of this one thread, so
that neighbours on a shared machine count little, nor a BLAS whose idle threads spin. Motion is the scripted actor's. The
peak is numpy's sgemm at 2048³.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from poseline.actor import perform
from poseline.bundle import ModelBundle, find_bundle
from poseline.pose import PoseConverter
from poseline.skeleton import Floats
from poseline_service.engine import open_scorer

BATCHES = (1, 32, 64)
ROUNDS = 9
TARGETS = {"1": 120.0, "64": 15.0}
"""µs per stream-frame by batch, on a core whose sgemm reaches `TARGET_PEAK` GFLOP/s."""
TARGET_PEAK = 113.0
_SECONDS_PER_CASE = 0.15
_GEMM = 2048


def measure(bundle: ModelBundle) -> dict[str, Any]:
    """us_per_stream_frame per batch, sgemm_gflops, state_bytes_per_stream."""
    scorer = open_scorer(bundle, slots=sum(BATCHES))
    actor = perform(1, seconds=20).poses
    motion = PoseConverter(actor.layout, actor.coordinates)(actor.joints, actor.confidence)

    def stepping(batch: int) -> Callable[[], None]:
        # Streams of one batch stand at different phases, so that the deep levels' work is spread as it is in service.
        slots = np.array([scorer.open() for _ in range(batch)])
        for late in range(4):
            some = slots[slots % 4 <= late]
            if len(some):
                scorer.step(some, _batch(motion, len(some), 0))
        batches = cycle([_batch(motion, batch, frame) for frame in range(64)])

        def step() -> None:
            scorer.step(slots, next(batches))

        return step

    matrix = np.random.default_rng(0).random((_GEMM, _GEMM), dtype=np.float32)
    cases: dict[str, Callable[[], object]] = {str(batch): stepping(batch) for batch in BATCHES}
    cases["sgemm"] = lambda: matrix @ matrix
    seconds = _interleave(cases)
    return {
        "model": f"{bundle.manifest.name} {bundle.manifest.version}",
        "us_per_stream_frame": {str(b): 1e6 * seconds[str(b)] / b for b in BATCHES},
        "sgemm_gflops": 2 * _GEMM**3 / seconds["sgemm"] / 1e9,
        "state_bytes_per_stream": bundle.manifest.state.bytes_per_stream,
    }


def _batch(motion: Floats, batch: int, frame: int) -> Floats:
    return motion[(frame + 7 * np.arange(batch)) % len(motion)]


def _interleave(cases: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of one call of each case."""
    calls: dict[str, int] = {}
    for name, run in cases.items():
        for _ in range(20 if name != "sgemm" else 1):
            run()
        begun = time.thread_time()
        run()
        calls[name] = max(1, int(_SECONDS_PER_CASE / max(time.thread_time() - begun, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in track(range(ROUNDS), "measuring", transient=True):
        for name, run in cases.items():
            begun = time.thread_time()
            for _ in range(calls[name]):
                run()
            found[name].append((time.thread_time() - begun) / calls[name])
    return {name: float(np.median(values)) for name, values in found.items()}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pin this process to its last core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(models: Path, model: str | None, json_file: Path | None) -> None:
    bundle = find_bundle(models, model)
    with one_core(), threadpool_limits(1):
        figures = measure(bundle)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    table = Table("batch", "µs per stream-frame", "target", "at this peak", title=f"{figures['model']}, one core")
    for batch, cost in figures["us_per_stream_frame"].items():
        target = TARGETS.get(batch)
        here = f"≤ {target * TARGET_PEAK / figures['sgemm_gflops']:.0f}" if target else ""
        table.add_row(batch, f"{cost:.1f}", f"≤ {target:g}" if target else "", here)
    console = Console()
    console.print(table)
    peak = figures["sgemm_gflops"]
    console.print(f"sgemm peak of the same run: {peak:.0f} GFLOP/s; targets are for a core with {TARGET_PEAK:g}")
    console.print(f"state: {figures['state_bytes_per_stream']} bytes per stream")
