"""kill -9 of a server under live streams: no final may be lost or told twice.

Two servers share a Redis; clients reach whichever of both a relay points at. In the middle of their recordings the first
is killed (then, in a second round, told to go by SIGTERM), and `NOTICING` seconds later, as long as a balancer takes to
see it, the relay points at the second, where `StreamClient` resumes by itself. What each client was told is held against
an undisturbed run of the same motion. JSON: {"sigkill", "sigterm"}: `witnesses.Comparison`, resumed, longest_pause_s;
seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from poseline.errors import PoselineError
from poseline_bench.processes import UNLIMITED, Server, serving, storing
from poseline_bench.relay import Relay
from poseline_bench.witnesses import Account, Part, attest, compared, part, undisturbed

STREAMS, SECONDS, FPS = 200, 30.0, 10.0
WHEN = 0.4
"""Share of the recordings after which the server is killed."""
NOTICING = 1.0
_SCORES_HZ = 5.0
_SIGNALS = {"sigkill": signal.SIGKILL, "sigterm": signal.SIGTERM}


class FinalsLost(PoselineError):
    """What a kill must not do."""

    code = "finals_lost"


def run(models: Path, model: str | None, json_file: Path | None = None) -> None:
    """Print and write the figures. Raises FinalsLost unless every final came exactly once, and was the right one."""
    figures = measure(models, model)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures, Console())
    if not all(figures[name]["same"] for name in _SIGNALS):
        raise FinalsLost("finals were lost, doubled or changed, or streams failed: see the table")


def measure(models: Path, model: str | None) -> dict[str, Any]:
    begun = perf_counter()
    parts = [part(seed, seconds=SECONDS, fps=FPS) for seed in range(STREAMS)]
    with serving(models, model, **UNLIMITED) as calm:
        truth = asyncio.run(undisturbed(calm.ws, parts, scores_hz=_SCORES_HZ))
    figures: dict[str, Any] = {}
    for name, number in _SIGNALS.items():
        with (
            storing() as store,
            serving(models, model, state_url=store, **UNLIMITED) as first,
            serving(models, model, state_url=store, **UNLIMITED) as second,
        ):
            found = asyncio.run(_killed(first, second, parts, number))
        figures[name] = _told(truth, found)
    return figures | {"seconds": perf_counter() - begun}


async def _killed(first: Server, second: Server, parts: list[Part], number: int) -> list[Account]:
    """What each stream was told, across the death of the first server."""
    dice = random.Random(0)
    async with Relay(first.port) as line:
        playing = [
            asyncio.create_task(attest(line.ws, one, speed=1, scores_hz=_SCORES_HZ, late=dice.random()))
            for one in parts
        ]
        await asyncio.sleep(WHEN * SECONDS)
        first.process.send_signal(number)
        await asyncio.sleep(NOTICING)
        line.target = second.port
        return await asyncio.gather(*playing)


def _told(truth: list[Account], found: list[Account]) -> dict[str, Any]:
    return compared(truth, found).told() | {
        "resumed": sum(one.resumes > 0 for one in found),
        "longest_pause_s": max(one.pause for one in found),
    }


def show(figures: dict[str, Any], console: Console) -> None:
    first = figures["sigkill"]
    table = Table(
        "", *_SIGNALS, title=f"a server ends under {first['streams']} live streams of {FPS:g} frames a second"
    )
    for key in first:
        if key not in ("streams", "failed"):
            cells = (figures[name][key] for name in _SIGNALS)
            table.add_row(key.replace("_", " "), *(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
    table.add_row("streams failed", *(str(len(figures[name]["failed"])) for name in _SIGNALS))
    console.print(table)
    for name in _SIGNALS:
        for why in sorted(set(figures[name]["failed"]))[:5]:
            console.print(f"{name}: {why}")
    console.print(f"the relay noticed after {NOTICING:g} s; {figures['seconds']:.0f} s in all")
