"""What one stream-frame costs the engine: beside what the same core can do at best, and beside other engines.

One run, one core, all cases in turn (`clock`). Its JSON keys are stable:

    us_per_stream_frame            {batch: µs}, of a scorer that has no other streams
    us_one_of_64_in_turn           µs of a step that holds one frame, of another stream each time
    sgemm_gflops                   this run's peak; multiply_adds, sgemm_limit_us: what the network needs, and at that peak
    sgemm_fraction_b64             that limit over the cost at batch 64
    state_bytes_per_stream
    ratio_vs_continual_inference, ratio_vs_window_rerun, ratio_vs_shortest_window_rerun    {batch: times}
    us_same_network                {engine: {batch: µs}}, what those ratios are of
    us_by_classes                  {classes: {"step", "decoding"}}: µs per stream-frame at batch 32
    two_core_scaling               throughput of two threads over one; null on one core
    model, commit, date, machine, spread      of what, when, where, and how far the rounds differed
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import tempfile
import tracemalloc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from poseline.bundle import ModelBundle, find_bundle
from poseline_bench import cases, table
from poseline_bench.clock import Timings, interleave, one_core
from poseline_bench.limit import multiply_adds, peak_gflops, products
from poseline_bench.rivals import ComparedNetwork, bundle_of
from poseline_bench.scaling import two_core_scaling
from poseline_service.engine import open_scorer

ENGINES = {
    "ours": "Poseline",
    "continual": "continual-inference",
    "view": "PyTorch, 13 frames re-run",
    "window": "PyTorch, 128 frames re-run",
}
"""Case of `cases.same_network` → its name in the figures."""
_SLOTS = 1024
_LIBRARIES = ("numpy", "torch", "continual-inference")


def run(models: Path, model: str | None, json_file: Path | None = None, plots: Path | None = None) -> None:
    """Measure a bundle, print the table, write figures and plots where asked. Raises UnknownModel, BundleError."""
    figures = measure(find_bundle(models, model))
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    if plots:
        from poseline_bench.plots import draw

        draw(figures, plots)
    table.show(figures, Console())


def measure(bundle: ModelBundle) -> dict[str, Any]:
    """All figures, by the keys above."""
    network, made = ComparedNetwork(), products()
    with tempfile.TemporaryDirectory() as folder, Console().status("exporting the networks to compare") as exporting:
        compared = bundle_of(network, Path(folder) / "compared")
        turns = {name: product.run for name, product in made.items()}
        turns |= cases.by_batch(bundle) | {"in turn": cases.in_turn(bundle)}
        turns |= cases.same_network(compared, network) | cases.by_classes(Path(folder))
        exporting.stop()
        with one_core(), torch.inference_mode():
            timings = interleave(turns)
    return {
        **_provenance(bundle),
        "spread": float(np.median([timings.spread(name) for name in turns])),
        **_costs(bundle, timings, peak_gflops(timings, made)),
        **_ratios(timings),
        "us_by_classes": {str(classes): _of_classes(timings, classes) for classes in cases.CLASSES},
        "state_bytes_per_stream": state_bytes(bundle),
        "two_core_scaling": two_core_scaling(bundle),
    }


def _us(timings: Timings, case: str, batch: int) -> float:
    """Per stream-frame."""
    return 1e6 * timings.seconds(case) / batch


def _costs(bundle: ModelBundle, timings: Timings, peak: float) -> dict[str, Any]:
    cost = {str(batch): _us(timings, f"step {batch}", batch) for batch in cases.BATCHES}
    limit = 2e-3 * multiply_adds(bundle) / peak
    return {
        "us_per_stream_frame": cost,
        "us_one_of_64_in_turn": _us(timings, "in turn", 1),
        "sgemm_gflops": peak,
        "multiply_adds": multiply_adds(bundle),
        "sgemm_limit_us": limit,
        "sgemm_fraction_b64": limit / cost["64"],
    }


def _ratios(timings: Timings) -> dict[str, Any]:
    def against(rival: str) -> dict[str, float]:
        return {str(batch): timings.ratio(f"{rival} {batch}", f"ours {batch}") for batch in cases.COMPARED}

    return {
        "us_same_network": {
            name: {str(batch): _us(timings, f"{case} {batch}", batch) for batch in cases.COMPARED}
            for case, name in ENGINES.items()
        },
        "ratio_vs_continual_inference": against("continual"),
        "ratio_vs_window_rerun": against("window"),
        "ratio_vs_shortest_window_rerun": against("view"),
    }


def _of_classes(timings: Timings, classes: int) -> dict[str, float]:
    return {part: _us(timings, f"{part} of {classes}", cases.DECODED) for part in ("step", "decoding")}


def state_bytes(bundle: ModelBundle) -> int:
    """Memory that one stream takes: what a scorer allots per slot, or what the manifest says if that is more."""
    allotted: list[int] = []
    for slots in (_SLOTS, 2 * _SLOTS):
        tracemalloc.start()
        scorer = open_scorer(bundle, slots)
        allotted.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del scorer
    return max(bundle.manifest.state.bytes_per_stream, round((allotted[1] - allotted[0]) / _SLOTS))


def _provenance(bundle: ModelBundle) -> dict[str, Any]:
    return {
        "model": f"{bundle.manifest.name} {bundle.manifest.version}",
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": {
            "processor": _processor(),
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
    }


def _commit() -> str | None:
    """That the working tree stands on, with `+` where the packages differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
