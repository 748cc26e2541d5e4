"""Ten minutes of coming and going on one real server, which must be as small afterwards as it was when it was warm.

Side by side: witnesses (several people, 30 frames a second) over a line that is cut every few seconds, who must be told
exactly what an undisturbed run told; culprits (`mutations`); readers so slow that the server stops reading them;
recordings by `POST /v1/localize` and as jobs. Every few seconds the server's own metrics are sampled.

Flat means: after the first `WARM_UP` of the time the Theil-Sen slope (Sen, J. Am. Stat. Assoc. 63, 1968: the median of the
slopes of all pairs of samples, which a burst does not move) comes to no more than `GROWTH` in an hour; and once all have
left, tasks, descriptors, sessions and state are what they were before anybody came. JSON: {"samples": {name: [...]},
"slopes": {name: an hour}, "before", "after", "witnesses", "done", "offences", "faults", "flaws", "seconds"}.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from poseline.actor import perform
from poseline.codec import encode
from poseline.errors import PoselineError
from poseline.remote import request_for
from poseline_bench.aftermath import faults, held, left_over, settled
from poseline_bench.culprit import Offence, misbehave
from poseline_bench.mutations import write
from poseline_bench.processes import UNLIMITED, Server, serving
from poseline_bench.relay import Relay
from poseline_bench.wire import JSON, Script
from poseline_bench.witnesses import Account, Comparison, Part, attest, part, undisturbed

SECONDS = 600.0
WARM_UP = 0.3
"""Its first streams, recordings and jobs make what is made once; memory first grows by that."""
SAMPLE = 3.0
GROWTH = {"rss_mb": 40.0, "tasks": 20.0, "fds": 20.0, "sessions": 20.0, "state_mb": 2.0}
"""What may be more after an hour: memory by what its allocator does not give back, the rest by chance."""
WITNESSES, PARTS, LENGTH = 12, 6, 15.0
CULPRITS, SLOW = 6, 2
_CUT = (2.0, 8.0)
"""Seconds between two cuts of the witnesses' line."""
_FORGETS: dict[str, object] = {"idle_seconds": 3, "start_seconds": 3, "resume_seconds": 15, "job_ttl": 15}
"""Settings under which what is kept for a while has its steady size well before the warm-up is over."""
_JOB_EVERY = 4
"""Recordings, of which one goes through a job."""
_TOLD = 5


class NotFlat(PoselineError):
    """The server grew, or told somebody something wrong."""

    code = "not_flat"


def run(
    models: Path,
    model: str | None,
    json_file: Path | None = None,
    plots: Path | None = None,
    *,
    seconds: float = SECONDS,
) -> None:
    """Print, write and draw the figures. Raises NotFlat."""
    figures = measure(models, model, seconds)
    if json_file:
        json_file.write_text(json.dumps(figures) + "\n")
    if plots:
        from poseline_bench.soak_plot import draw

        draw(figures, plots)
    show(figures, Console())
    if figures["flaws"]:
        raise NotFlat("; ".join(figures["flaws"]))


def measure(models: Path, model: str | None, seconds: float) -> dict[str, Any]:
    parts = [part(seed, seconds=LENGTH, people=1 + seed % 3) for seed in range(PARTS)]
    with serving(models, model, **UNLIMITED, **_FORGETS) as server:
        truth = asyncio.run(undisturbed(server.ws, parts, scores_hz=5))
        soak = Soak(server, list(zip(parts, truth, strict=True)))
        asyncio.run(soak.warm())
        before = settled(server)
        asyncio.run(soak.go(seconds))
        figures = {
            "seconds": seconds,
            "samples": soak.samples,
            "slopes": slopes(soak.samples, WARM_UP * seconds),
            "before": before,
            "after": settled(server, before),
            "witnesses": soak.comparison.told(),
            "done": dict(soak.done),
            "offences": soak.offences,
            "faults": faults(server)[:_TOLD],
        }
    return figures | {"flaws": list(_flaws(figures))}


class Soak:
    """All that goes on, until it is over. samples: `t` and what the server held then. done: what was done, by kind."""

    def __init__(self, server: Server, parts: list[tuple[Part, Account]]) -> None:
        self._server, self._parts = server, parts
        self._dice = random.Random(0)
        self._numbers = count()
        self._end = 0.0
        self.samples: dict[str, list[float]] = {name: [] for name in ("t", *GROWTH)}
        self.done: Counter[str] = Counter()
        self.offences: list[str] = []
        self.comparison = Comparison()

    async def warm(self) -> None:
        """Everything that is made at its first use is made."""
        async with self._http() as http:
            for _ in range(_JOB_EVERY):
                await self._recording(http)
        self.done.clear()

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._server.url, timeout=60)

    async def go(self, seconds: float) -> None:
        self._begin = perf_counter()
        self._end = self._begin + seconds
        async with Relay(self._server.port) as line, self._http() as http:
            acts: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
                (WITNESSES, lambda: self._witness(line)),
                (CULPRITS, self._culprit),
                (SLOW, self._slow_reader),
                (1, lambda: self._cut(line)),
                (1, lambda: self._recording(http)),
                (1, self._sample),
            ]
            await asyncio.gather(*(self._again(act) for times, act in acts for _ in range(times)))

    async def _again(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while perf_counter() < self._end:
            await act()

    async def _witness(self, line: Relay) -> None:
        played, truth = self._dice.choice(self._parts)
        account = await attest(line.ws, played, speed=1, scores_hz=5, chunk=self._dice.choice((1, 1, 3, 10)))
        self.comparison.add(truth, account)
        self.done["streams"] += 1
        self.done["resumes"] += account.resumes

    async def _cut(self, line: Relay) -> None:
        await asyncio.sleep(self._dice.uniform(*_CUT))
        line.cut()
        self.done["cuts"] += 1

    async def _culprit(self) -> None:
        number = next(self._numbers)
        try:
            await misbehave(self._server.port, write(0, number))
        except (Offence, OSError, EOFError) as error:
            self.offences.append(f"script {number} of seed 0: {error!r}")
        self.done["culprits"] += 1
        await asyncio.sleep(self._dice.uniform(0.5, 2))

    async def _slow_reader(self) -> None:
        """Sends, and takes next to nothing of what it is told; after some seconds it leaves, or reads on."""
        script, line = _SCRIPT, socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self._server.port))
        reader, writer = await asyncio.open_connection(sock=line, limit=1024)
        with suppress(OSError, TimeoutError):
            writer.write(script.handshake(self._server.port) + (script.start or b""))
            async with asyncio.timeout(self._dice.uniform(2, 6)):
                for message in script.messages:
                    writer.write(message)
                    await writer.drain()
                await asyncio.Event().wait()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._dice.choice((0, 2))):
                while await reader.read(1 << 16):
                    pass
        writer.transport.abort()
        self.done["slow readers"] += 1

    async def _recording(self, http: httpx.AsyncClient) -> None:
        """Localized at once, and now and then as a job."""
        headers = {"Content-Type": "application/json"}
        (await http.post("/v1/localize", content=_RECORDING, headers=headers)).raise_for_status()
        self.done["recordings"] += 1
        if self.done["recordings"] % _JOB_EVERY == 0:
            job = (await http.post("/v1/jobs", content=_RECORDING, headers=headers)).raise_for_status().json()
            while (await http.get(f"/v1/jobs/{job['id']}")).json()["state"] in ("queued", "running"):
                await asyncio.sleep(0.2)
            (await http.get(f"/v1/jobs/{job['id']}/result")).raise_for_status()
            self.done["jobs"] += 1
        await asyncio.sleep(2)

    async def _sample(self) -> None:
        found = held(await asyncio.to_thread(self._server.metrics))
        found |= {"t": perf_counter() - self._begin, "state_mb": found["state_bytes"] / 1e6}
        for name, values in self.samples.items():
            values.append(round(found[name], 3))
        await asyncio.sleep(SAMPLE)


_SCRIPT = Script(JSON, people=4)
_RECORDING = encode(request_for({"p1": perform(1, seconds=10).poses}))


def slopes(samples: dict[str, list[float]], since: float) -> dict[str, float]:
    """Theil-Sen slopes an hour, of the samples from that second on."""
    t = np.array(samples["t"])
    late = t >= since
    return {name: 3600 * theil_sen(t[late], np.array(samples[name])[late]) for name in GROWTH}


def theil_sen(t: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """The median of the slopes of all pairs."""
    i, j = np.triu_indices(len(t), 1)
    return float(np.median((y[j] - y[i]) / (t[j] - t[i]))) if len(i) else 0.0


def _flaws(figures: dict[str, Any]) -> Iterator[str]:
    for name, most in GROWTH.items():
        if (slope := figures["slopes"][name]) > most:
            yield f"{name} grows by {slope:.3g} an hour, {most:g} are allowed"
    yield from left_over(figures["before"], figures["after"])
    if not figures["witnesses"]["same"]:
        yield "the witnesses were told something else than in an undisturbed run"
    if figures["offences"]:
        yield f"{len(figures['offences'])} offences, the first: {figures['offences'][0]}"
    if figures["faults"]:
        yield f"the server says {figures['faults'][0][:300]}"


def show(figures: dict[str, Any], console: Console) -> None:
    before, after, samples = figures["before"], figures["after"], figures["samples"]
    table = Table(
        "", "before", "median", "most", "an hour", "allowed", "after", title=f"{figures['seconds']:g} s of churn"
    )
    for name, most in GROWTH.items():
        key, scale = ("state_bytes", 1e-6) if name == "state_mb" else (name, 1.0)
        values = [before[key] * scale, np.median(samples[name]), max(samples[name]), figures["slopes"][name], most]
        table.add_row(name, *(f"{value:.4g}" for value in [*values, after[key] * scale]))
    console.print(table)
    console.print(", ".join(f"{times} {what}" for what, times in figures["done"].items()))
    one = figures["witnesses"]
    console.print(
        f"witnesses: {one['finals']} finals, {one['lost']} lost, {one['doubled']} doubled, {one['invented']} invented, "
        f"{len(one['failed'])} streams failed; scores differ by {one['mean']:.2g} (mean), {one['worst']:.2g} (worst)"
    )
    for line in (*one["failed"][:_TOLD], *figures["offences"][:_TOLD], *figures["faults"]):
        console.print(line)
