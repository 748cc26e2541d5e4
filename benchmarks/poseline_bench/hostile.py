"""What well-behaved streams notice of clients that mean harm (`attackers`): frame-to-scores, alone and under attack.

Fifty streams are held again and again (`holding.hold`): in each round once alone, then once under every kind of attack. The
ratio of two 99th percentiles is taken within a round, and the median over the rounds is told, for on a shared machine the
milliseconds themselves say little. Each hold has the attack's process on the same cores. JSON: {"streams", "rounds",
"alone_p99_ms": [...], "attacks": {kind: {"p99_ms": [...], "ratio", "unanswered", "lost", "became", "refused"}}, "rss_mb":
{"before", "most"}, "cores", "seconds"}; became: what the attackers saw; refused: what the server counted, by reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from poseline.errors import PoselineError
from poseline_bench.attackers import KINDS
from poseline_bench.clock import cores, turns
from poseline_bench.holding import Held, hold
from poseline_bench.processes import UNLIMITED, Server, serving
from poseline_bench.wire import BINARY, Script

STREAMS = 50
ROUNDS = 3
_GUARDED = {name: value for name, value in UNLIMITED.items() if not name.startswith("connections")}
"""The guards as shipped; the rest out of the way, or a busy machine would have streams refused."""
_REFUSED = "poseline_connections_refused_total"


class NotHeld(PoselineError):
    """Streams broke or frames were never answered while others were attacking."""

    code = "not_held"


def run(models: Path, model: str | None, json_file: Path | None = None, plots: Path | None = None) -> None:
    """Print the figures, and write them where asked. Raises NotHeld."""
    figures = measure(models, model)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    _show(figures, Console())
    if broken := [name for name, one in figures["attacks"].items() if one["lost"] or one["unanswered"]]:
        raise NotHeld(f"streams were harmed by {', '.join(broken)}")


def measure(models: Path, model: str | None, kinds: tuple[str, ...] = tuple(KINDS)) -> dict[str, Any]:
    """All figures, as told above."""
    begun, script = perf_counter(), Script(BINARY)
    alone: list[Held] = []
    under: dict[str, list[Held]] = {kind: [] for kind in kinds}
    became: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    refused: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    with serving(models, model, **_GUARDED) as server, turns(ROUNDS * (1 + len(kinds))) as tell:
        hold(server, script, STREAMS)  # pools and caches grow
        before = most = _rss(server)
        for _ in range(ROUNDS):
            tell("alone")
            alone.append(_held(server, script, "nobody"))
            server.emptied()
            for kind in kinds:
                tell(kind)
                counted = _refused(server)
                with _attacking(kind, server.port, became[kind]):
                    under[kind].append(_held(server, script, kind))
                    most = max(most, _rss(server))
                server.emptied()
                refused[kind] += _refused(server) - counted
    attacks = {kind: _attack(alone, under[kind], became[kind], refused[kind]) for kind in kinds}
    return {
        "streams": STREAMS,
        "rounds": ROUNDS,
        "alone_p99_ms": [round(one.p99_ms, 2) for one in alone],
        "attacks": attacks,
        "rss_mb": {"before": round(before, 1), "most": round(most, 1)},
        "cores": len(cores()),
        "seconds": round(perf_counter() - begun, 1),
    }


def _attack(alone: list[Held], under: list[Held], became: Counter[str], refused: Counter[str]) -> dict[str, Any]:
    return {
        "p99_ms": [round(one.p99_ms, 2) for one in under],
        "ratio": round(median(b.p99_ms / a.p99_ms for a, b in zip(alone, under, strict=True)), 2),
        "unanswered": sum(one.unanswered for one in under),
        "lost": sum(one.lost for one in under),
        "became": dict(became),
        "refused": dict(refused),
    }


def _held(server: Server, script: Script, under: str) -> Held:
    held = hold(server, script, STREAMS)
    if held is None:
        raise NotHeld(f"{STREAMS} streams could not even be opened in time under {under}")
    return held


@contextmanager
def _attacking(kind: str, port: int, became: Counter[str]) -> Iterator[None]:
    command = [sys.executable, "-m", "poseline_bench.attackers", kind, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as attackers:
        try:
            assert attackers.stdout is not None
            attackers.stdout.readline()
            yield
        finally:
            told, _ = attackers.communicate()  # ends their input, which ends them
    became.update(json.loads(told))


def _refused(server: Server) -> Counter[str]:
    """By reason; and streams that were closed, by code."""
    found: Counter[str] = Counter()
    for name, value in server.metrics().items():
        family, _, label = name.partition("{")
        if family in (_REFUSED, "poseline_ws_closes_total"):
            found[label.partition('"')[2].partition('"')[0]] += int(value)
    return found


def _rss(server: Server) -> float:
    """MB."""
    return server.process.memory_info().rss / 1e6


def _show(figures: dict[str, Any], console: Console) -> None:
    title = f"{figures['streams']} streams, {figures['rounds']} rounds, {figures['cores']} cores"
    shown = Table("under", "p99, ms", "times p99 alone", "attackers saw", "server counted", title=title)
    shown.add_row("nobody", f"{np.median(figures['alone_p99_ms']):.1f}", "1", "", "")
    for kind, one in figures["attacks"].items():
        saw, counted = (", ".join(f"{n} {what}" for what, n in one[of].items()) for of in ("became", "refused"))
        shown.add_row(kind, f"{np.median(one['p99_ms']):.1f}", f"{one['ratio']:.2f}", saw, counted)
    console.print(shown)
    rss = figures["rss_mb"]
    console.print(f"memory {rss['before']:.0f} MB before, {rss['most']:.0f} at most; {figures['seconds']:.0f} s in all")
