"""A server under clients that do everything wrong, beside witnesses that do nothing wrong.

`AT_ONCE` culprits at a time follow scripts (`mutations`), each a pure function of the seed and its number, and check what
the server answers (`culprit`); witnesses (`witnesses`) go on all the while and must be told what an undisturbed run told.
Half of the messages meet a server that keeps states in memory, half one that keeps them in Redis. Afterwards the server
must be ready, its log free of faults, its sessions none, and tasks, descriptors and memory what they were when warm.
JSON: {"memory", "redis"}: scripts, messages, seconds, outcomes, spoilt, offences, faults, before, after, witnesses; seed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from poseline.errors import PoselineError
from poseline_bench.aftermath import faults, left_over, settled
from poseline_bench.culprit import Offence, misbehave
from poseline_bench.mutations import write
from poseline_bench.processes import UNLIMITED, Server, serving, storing
from poseline_bench.witnesses import Comparison, attest, part, undisturbed

MESSAGES = 100_000
AT_ONCE = 64
WITNESSES, SECONDS = 4, 12.0
WARM_UP = 0.4
"""As many of the messages come before memory is looked at: pools and arenas have then grown as they will, and what only the
rare search for cycles gives back has reached its usual height."""
GROWTH_MB = 24.0
"""What the server may have gained after it."""
_KEPT = 20
_SHORT: dict[str, object] = {"start_seconds": 2, "idle_seconds": 2, "resume_seconds": _KEPT}
"""Settings under which clients that fall silent do not take all the time; witnesses on a busy machine still have enough."""
_TOLD = 5
STORES = ("memory", "redis")


class Flawed(PoselineError):
    """The fuzzer found something."""

    code = "fuzz_found"


def run(
    models: Path, model: str | None, json_file: Path | None = None, *, messages: int = MESSAGES, seed: int = 0
) -> None:
    """Print and write the figures. Raises Flawed for whatever the server did wrong."""
    figures: dict[str, Any] = {"seed": seed}
    for store in STORES:
        figures[store] = measure(models, model, store, messages // len(STORES), seed)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures, Console())
    if flaws := [flaw for store in STORES for flaw in figures[store]["flaws"]]:
        raise Flawed("; ".join(flaws))


def measure(models: Path, model: str | None, store: str, messages: int, seed: int) -> dict[str, Any]:
    with _server(models, model, store) as server:
        parts = [part(n, seconds=SECONDS) for n in range(WITNESSES)]
        witnesses = list(zip(parts, asyncio.run(undisturbed(server.ws, parts, scores_hz=30)), strict=True))
        asyncio.run(
            _storm(server, round(WARM_UP * messages), seed - 1, witnesses)
        )  # warm is who has done all of it once
        before = settled(server, seconds=_KEPT + 1)
        figures, comparison = asyncio.run(_storm(server, messages, seed, witnesses))
        figures |= {
            "before": before,
            "after": settled(server, before, seconds=_KEPT + 1),
            "faults": faults(server)[:_TOLD],
        }
    figures["witnesses"] = comparison.told()
    return figures | {"flaws": list(_flaws(figures, comparison))}


@contextmanager
def _server(models: Path, model: str | None, store: str) -> Iterator[Server]:
    if store == "memory":
        with serving(models, model, **UNLIMITED, **_SHORT) as server:
            yield server
    else:
        with storing() as url, serving(models, model, state_url=url, **UNLIMITED, **_SHORT) as server:
            yield server


async def _storm(server: Server, messages: int, seed: int, witnesses: list[Any]) -> tuple[dict[str, Any], Comparison]:
    """Scripts until so many messages were sent, `AT_ONCE` at a time; witnesses play their parts again and again."""
    numbers, begun = count(), perf_counter()
    outcomes, spoilt = Counter[str](), Counter[str]()
    offences: list[str] = []
    sent = scripts = 0
    longest = (0.0, 0)

    async def follow() -> None:
        nonlocal sent, scripts, longest
        while sent < messages:
            script = write(seed, next(numbers))
            start = perf_counter()
            try:
                heard = await misbehave(server.port, script)
            except (Offence, OSError, EOFError) as error:
                offences.append(f"script {script.number} of seed {seed} ({', '.join(script.kinds)}): {error!r}")
                sent += 1
                continue
            longest = max(longest, (perf_counter() - start, script.number))
            sent, scripts = sent + heard.messages, scripts + 1
            outcomes.update(heard.outcomes)
            spoilt.update(script.kinds or ["nothing"])

    over, comparison = asyncio.Event(), Comparison()

    async def watch(played: Any, truth: Any) -> None:
        while not over.is_set():
            comparison.add(truth, await attest(server.ws, played, speed=1, scores_hz=30))

    watching = [asyncio.create_task(watch(*one)) for one in witnesses]
    await asyncio.gather(*(follow() for _ in range(AT_ONCE)))
    seconds = perf_counter() - begun
    over.set()
    await asyncio.gather(*watching)
    figures = {
        "scripts": scripts,
        "messages": sent,
        "seconds": seconds,
        "longest_s": longest[0],
        "longest_script": longest[1],
        "outcomes": dict(outcomes.most_common()),
        "spoilt": dict(spoilt.most_common()),
        "offences": offences,
    }
    return figures, comparison


def _flaws(figures: dict[str, Any], comparison: Comparison) -> Iterator[str]:
    before, after = figures["before"], figures["after"]
    if figures["offences"]:
        yield f"{len(figures['offences'])} offences, the first: {figures['offences'][0]}"
    if figures["faults"]:
        yield f"the server says {figures['faults'][0][:300]}"
    if not comparison.same:
        yield "the witnesses were told something else than in an undisturbed run"
    yield from left_over(before, after)
    if after["rss_mb"] - before["rss_mb"] > GROWTH_MB:
        yield f"memory grew from {before['rss_mb']:.0f} to {after['rss_mb']:.0f} MB"


def show(figures: dict[str, Any], console: Console) -> None:
    table = Table("", *STORES, title=f"clients that do everything wrong, seed {figures['seed']}")
    of = [figures[store] for store in STORES]

    def row(name: str, cells: list[str]) -> None:
        table.add_row(name, *cells)

    row("messages", [f"{one['messages']}" for one in of])
    row("scripts", [f"{one['scripts']}" for one in of])
    row("seconds", [f"{one['seconds']:.0f}" for one in of])
    row("longest script, seconds", [f"{one['longest_s']:.1f} ({one['longest_script']})" for one in of])
    row("offences", [str(len(one["offences"])) for one in of])
    row("witnesses' finals: same, lost, doubled, invented", [_finals(one["witnesses"]) for one in of])
    row("witnesses' scores: worst, mean difference", [_scores(one["witnesses"]) for one in of])
    for name in ("sessions", "tasks", "fds", "rss_mb"):
        row(f"{name}: before, after", [f"{one['before'][name]:.4g}, {one['after'][name]:.4g}" for one in of])
    for outcome in dict.fromkeys(outcome for one in of for outcome in one["outcomes"]):
        row(f"  ended: {outcome}", [str(one["outcomes"].get(outcome, 0)) for one in of])
    console.print(table)
    for one in of:
        for line in (*one["offences"][:_TOLD], *one["witnesses"]["failed"][:_TOLD]):
            console.print(line)


def _finals(one: dict[str, Any]) -> str:
    return f"{one['finals'] - one['lost']} of {one['finals']}, {one['lost']}, {one['doubled']}, {one['invented']}"


def _scores(one: dict[str, Any]) -> str:
    return f"{one['worst']:.2g}, {one['mean']:.2g} of {one['scores']}"
