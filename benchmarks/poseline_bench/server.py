"""What the whole server costs and holds: a real process on loopback, load from this one, on the machine's own cores.

The generator (`load`) shares those cores, and its cost is part of what is held. Its JSON keys are stable; times in ms,
costs in µs of the server's CPU (all threads) per person-frame:

    binary, json             streams_at_p99_50ms; at four fifths of these, or the good hold next below (at_streams):
                             cpu_us_per_stream_frame, p50_ms, p99_ms, and server_over_engine, that cost over engine_us;
                             curve, failed: every hold that was good, and that was not (`holding.Held`)
    binary_16_per_message    {"people", "frames"}: cost with 16 people in a message, or 16 frames of one person
    overload                 twice as many streams as are held, default settings (`disturbance.overload`)
    churn                    streams opened and closed in random order (`disturbance.churn`)
    echo_cpu_us_per_message  a bare uvicorn echo under the same messages: what sockets and asyncio cost by themselves
    engine_us                the engine's step at batch 64 in the same run
    model, cores, seconds    of what, on how many, and how long the run took
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from poseline.bundle import ModelBundle, find_bundle
from poseline_bench import disturbance, holding, verdicts
from poseline_bench.cases import Streams
from poseline_bench.clock import cores, interleave, one_core, turns
from poseline_bench.holding import Search, Tell
from poseline_bench.processes import UNLIMITED, echoing, serving
from poseline_bench.wire import BINARY, JSON, EchoScript, Encoding, Script
from poseline_service.engine import open_scorer

SHARE = 0.8
"""Of the streams held: the load at which costs are told."""
PER_MESSAGE = 16
CHURN = 10_000
ECHOES = 100
"""Streams of the echo."""
_TURNS = 32


def run(models: Path, model: str | None, json_file: Path | None = None, plots: Path | None = None) -> None:
    """Measure a bundle's server, print the verdicts, write figures and plots where asked. Raises UnknownModel."""
    figures = measure(models, model)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    if plots:
        from poseline_bench.server_plots import draw

        draw(figures, plots)
    verdicts.show(figures, Console())


def measure(models: Path, model: str | None, encodings: tuple[Encoding, ...] = (BINARY, JSON)) -> dict[str, Any]:
    """All figures, by the keys above; the first encoding is the one that meets overload and churn."""
    bundle, begun, first = find_bundle(models, model), perf_counter(), encodings[0]
    with turns(_TURNS) as tell:
        tell("engine")
        figures: dict[str, Any] = {"model": f"{bundle.manifest.name} {bundle.manifest.version}", "cores": len(cores())}
        figures["engine_us"] = _engine_us(bundle)
        tell("echo")
        figures["echo_cpu_us_per_message"] = _echo_us(first)
        for encoding in encodings:
            figures[encoding.name] = _capacity(models, model, encoding, figures["engine_us"], tell)
        held = figures[first.name]["streams_at_p99_50ms"]
        figures[f"{first.name}_16_per_message"] = _in_messages(models, model, first, held, tell)
        tell("overload")
        with serving(models, model) as server:
            figures["overload"] = disturbance.overload(server, Script(first), max(2, 2 * held))
        tell("churn")
        with serving(models, model, **UNLIMITED) as server:  # all must come in, or nothing is tried
            size = bundle.manifest.state.bytes_per_stream
            figures["churn"] = disturbance.churn(server, Script(first), CHURN, size)
    return figures | {"seconds": perf_counter() - begun}


def _engine_us(bundle: ModelBundle) -> float:
    with one_core():
        step = interleave({"step": Streams(bundle, open_scorer(bundle, 64), 64)})
    return 1e6 * step.seconds("step") / 64


def _echo_us(encoding: Encoding) -> float | None:
    with echoing() as server:
        held = holding.hold(server, EchoScript(encoding), ECHOES)
    return held and held.cpu_us


def _capacity(models: Path, model: str | None, encoding: Encoding, engine_us: float, tell: Tell) -> dict[str, Any]:
    with serving(models, model, **UNLIMITED) as server:
        search = Search(server, Script(encoding), tell)
        most = search.most_held()
        cost = search.near(round(SHARE * most))
    return {
        "streams_at_p99_50ms": most,
        "at_streams": cost.streams if cost else None,
        "cpu_us_per_stream_frame": cost.cpu_us if cost else None,
        "server_over_engine": cost.cpu_us / engine_us if cost else None,
        "p50_ms": cost.p50_ms if cost else None,
        "p99_ms": cost.p99_ms if cost else None,
        "curve": [asdict(held) for _, held in sorted(search.curve.items())],
        "failed": [asdict(held) for held in search.failed],
    }


def _in_messages(models: Path, model: str | None, encoding: Encoding, held: int, tell: Tell) -> dict[str, Any]:
    """As many person-frames a second as at that share of the streams held, 16 of them in each message."""
    persons = max(PER_MESSAGE, round(SHARE * held))
    ways = {
        "people": (Script(encoding, people=PER_MESSAGE), persons // PER_MESSAGE),
        "frames": (Script(encoding, frames=PER_MESSAGE), persons),
    }
    found: dict[str, Any] = {}
    with serving(models, model, **UNLIMITED) as server:
        for name, (script, streams) in ways.items():
            tell(f"{PER_MESSAGE} {name} in a message")
            one = holding.hold(server, script, streams)
            found[name] = one and one.cpu_us
            server.emptied()
    return found
