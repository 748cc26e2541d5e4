"""How many streams a server holds, and what each of their frames costs it.

`hold` keeps so many streams going for some seconds: CPU time by the operating system's count, latencies of every frame.
It is `good` when every frame was answered and 99 in 100 within `PATIENCE_MS` of the moment they were due. `most_held`
climbs a ladder of such holds, which is also the curve that is drawn, until one is not good, then halves the gap.

Each hold has fresh streams, so none inherits the backlog of one that failed. A failure is not believed at once where
other processes had more than `OTHERS` of a core or the generator itself was late (a virtual machine that is paused makes
it so), nor on the ladder, where it would end the climb: it is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from time import perf_counter, process_time

import numpy as np
import psutil

from poseline_bench.load import Crowd
from poseline_bench.processes import Server
from poseline_bench.wire import Script

LADDER = (10, 50, 150, 300, 600, 1200, 2400)
RESOLUTION = 1.05
"""The search ends when the best hold and the worst failure are no further apart."""
BUDGET = 120.0
"""Seconds after which a search ends with what it has."""
WARM_UP, HOLD = 2.0, 5.0
PATIENCE_MS = 50.0
OTHERS = 0.3
LATE_MS = 5.0
"""A generator that is later than this, at the 99th percentile, was part of what it measured."""
_GATHERING, _SETTLING = 20.0, 1.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Held:
    """One hold. cpu_us: the server's, per person-frame. late_ms, generator_us: the load generator's own lateness (99th
    percentile) and CPU per message. others: cores that neither of both had. unanswered counts person-frames."""

    streams: int
    cpu_us: float
    p50_ms: float
    p99_ms: float
    late_ms: float
    generator_us: float
    others: float
    unanswered: int
    lost: int

    @property
    def good(self) -> bool:
        return self.p99_ms <= PATIENCE_MS and not self.unanswered and not self.lost

    @property
    def disturbed(self) -> bool:
        """By something that is not the server."""
        return self.others > OTHERS or self.late_ms > LATE_MS


class _Spent:
    """CPU seconds since it was made: of the server, of this process, and of everything else on the machine."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = (server.cpu(), process_time(), _busy(), perf_counter())

    def now(self) -> tuple[float, float, float]:
        now = (self._server.cpu(), process_time(), _busy(), perf_counter())
        server, own, busy, wall = (a - b for a, b in zip(now, self._before, strict=True))
        return server, own, max(0.0, busy - server - own) / wall


def _busy() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # in user and nice already
    return sum(times) - idle - guests


def hold(server: Server, script: Script, streams: int) -> Held | None:
    """None where not all streams could even be opened in time. Raises Refused where one was not let in."""
    with Crowd(server.port, script) as crowd:
        if not crowd.gather(streams, _GATHERING):
            return None
        crowd.run(WARM_UP)
        begin = perf_counter()
        crowd.watch(begin, begin + HOLD)
        spent, answered, sent = _Spent(server), crowd.answered, crowd.sent
        crowd.run(HOLD)
        (cpu, own, others), answered, sent = spent.now(), crowd.answered - answered, crowd.sent - sent
        unanswered = crowd.settle(_SETTLING)
        p50, p99 = np.percentile(1e3 * crowd.latencies(), (50, 99))
        late = np.percentile(1e3 * crowd.lateness(), 99)
    return Held(
        streams,
        cpu_us=1e6 * cpu / max(answered, 1),
        p50_ms=float(p50),
        p99_ms=float(p99),
        late_ms=float(late),
        generator_us=1e6 * own / max(sent, 1),
        others=others,
        unanswered=unanswered,
        lost=crowd.lost,
    )


class Search:
    """The holds of one script against one server; `curve` has the good ones by number of streams, `failed` the others."""

    def __init__(self, server: Server, script: Script, tell: Tell) -> None:
        self._server, self._script, self._tell = server, script, tell
        self.curve: dict[int, Held] = {}
        self.failed: list[Held] = []

    def most_held(self) -> int:
        """The largest number of streams that is held; 0 for none."""
        deadline = perf_counter() + BUDGET
        best, worst = 0, 0
        for streams in LADDER:
            if not self.holds(streams) and not self.holds(streams):
                worst = streams
                break
            best = streams
        while best and worst > RESOLUTION * best and perf_counter() < deadline:
            middle = round(sqrt(best * worst))
            if self.holds(middle):
                best = middle
            else:
                worst = middle
        return best

    def holds(self, streams: int) -> bool:
        """Whether so many are held. Raises Refused."""
        held = self._hold(streams)
        if held and not held.good and held.disturbed:
            held = self._hold(streams)
        return bool(held and held.good)

    def near(self, streams: int) -> Held | None:
        """The hold of so many; where it is not good, as a neighbour's burst may have it, the next smaller good one."""
        if streams and streams not in self.curve:
            self.holds(streams)
        good = [held for held in self.curve.values() if held.streams <= streams]
        return max(good, key=lambda held: held.streams, default=None)

    def _hold(self, streams: int) -> Held | None:
        self._tell(f"{self._script.encoding.name}, {streams} streams")
        held = hold(self._server, self._script, streams)
        self._server.emptied()
        if held and held.good:
            self.curve[streams] = held
        elif held:
            self.failed.append(held)
        return held
