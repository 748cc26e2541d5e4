"""Frame by frame through the network: the state pool and the step.

The pool is one array of state rows; a stream owns a *slot* of them and a frame counter. A step gathers the rows that a
level reads, runs its graph, and scatters the rows it wrote. A slot's row 0 is always zero, and a tap from before the
stream's first frame reads it, so a slot needs no reset: whatever its former owner left is never read.

The graphs themselves are a callable, so that this module knows no runtime. Not thread-safe: one owner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from poseline.bundle import GOLDEN_TOLERANCE, ModelBundle
from poseline.errors import BundleError, Overloaded
from poseline.manifest import LevelSpec, StateSpec
from poseline.skeleton import Floats

Slots = NDArray[np.int64]


class GraphRunner(Protocol):
    """Runs one level's graph.

    The first level takes `joints` (B, V, 4) and `rows` (B, taps · width), side by side, and gives scores (B, 1 + K),
    boundaries (B, 2) and rows (B, writes · width); every other level takes and gives rows alone.
    """

    def __call__(self, level: str, feeds: dict[str, Floats]) -> Sequence[Floats]: ...


class _LevelRows:
    """One level's rows within a slot, for every phase of a stream: tables to look up, nothing to compute per frame."""

    def __init__(self, spec: StateSpec, level: LevelSpec, phases: int) -> None:
        base: dict[str, int] = {}
        at = 1  # row 0 of a slot is zero for ever
        for ring in spec.rings:
            base[ring.name] = at
            at += ring.length
        length = {ring.name: ring.length for ring in spec.rings}
        writer = {name: i for i, one in enumerate(spec.levels) for name in one.writes}
        own = spec.levels.index(level)
        seen = np.arange(phases)
        self.due = (seen + 1) % level.every == 0
        self.reads = np.zeros((phases, len(level.reads)), np.int64)
        for i, tap in enumerate(level.reads):
            # A ring of an earlier level has already been written in this very frame.
            written = (seen + (writer[tap.ring] < own)) // spec.levels[writer[tap.ring]].every
            position = written - tap.age
            self.reads[:, i] = np.where(position >= 0, base[tap.ring] + position % length[tap.ring], 0)
        self.writes = np.stack([base[name] + seen // level.every % length[name] for name in level.writes], axis=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """Some streams at one frame: first row (B, 1) and phase (B,) of each."""

    first: NDArray[np.int64]
    phase: NDArray[np.int64]


class StatePool:
    """State rows of up to `slots` streams: float32 (slots × (1 + rows), width).

    All rows that a level touches depend only on how many frames the stream has seen, and after `period` frames they
    repeat (every ring has been filled by then). So a stream's clock is a phase: 0 … period - 1 while its rings fill,
    then period … 2·period - 1 round and round.
    """

    def __init__(self, spec: StateSpec, slots: int) -> None:
        self.spec = spec
        self.slots = slots
        every = {name: level.every for level in spec.levels for name in level.writes}
        period = math.lcm(*(ring.length * every[ring.name] for ring in spec.rings), *every.values())
        self._levels = {level.name: _LevelRows(spec, level, 2 * period) for level in spec.levels}
        self._next = np.arange(1, 2 * period + 1)
        self._next[-1] = period
        self._rows = np.zeros((slots * (1 + spec.rows), spec.width), np.float32)
        self._first = np.arange(slots) * (1 + spec.rows)
        self._phase = np.zeros(slots, np.int64)
        self._free = list(range(slots - 1, -1, -1))

    @property
    def used(self) -> int:
        return self.slots - len(self._free)

    def open(self) -> int:
        """A slot for a new stream. Raises Overloaded when all are taken."""
        if not self._free:
            raise Overloaded(f"all {self.slots} stream slots are taken")
        slot = self._free.pop()
        self._phase[slot] = 0
        return slot

    def close(self, slot: int) -> None:
        self._free.append(slot)

    def restart(self, slot: int) -> None:
        """Forget everything that the slot's stream has seen."""
        self._phase[slot] = 0

    def now(self, slots: Slots) -> Moment:
        """Where the streams of `slots` stand; to be read and written before `advance`."""
        return Moment(self._first[slots, None], self._phase[slots])

    def due(self, level: str, moment: Moment) -> Moment | None:
        """Those streams for which the level runs at this frame."""
        due = self._levels[level].due[moment.phase]
        if not due.any():
            return None
        return moment if due.all() else Moment(moment.first[due], moment.phase[due])

    def read(self, level: str, moment: Moment) -> Floats:
        """The rows that the level reads, side by side: (B, taps · width)."""
        rows = self._levels[level].reads[moment.phase] + moment.first
        return self._rows.take(rows, axis=0).reshape(len(rows), -1)

    def write(self, level: str, moment: Moment, rows: Floats) -> None:
        """Store the rows (B, writes · width) that the level made."""
        places = self._levels[level].writes[moment.phase] + moment.first
        self._rows[places] = rows.reshape(len(places), -1, self.spec.width)

    def advance(self, slots: Slots, moment: Moment) -> None:
        self._phase[slots] = self._next[moment.phase]


class StepScorer:
    """A network ready to run frame by frame for many streams at once."""

    def __init__(self, spec: StateSpec, run: GraphRunner, slots: int) -> None:
        self.pool = StatePool(spec, slots)
        self._run = run
        self._first, *self._deeper = [level.name for level in spec.levels]

    def open(self) -> int:
        return self.pool.open()

    def close(self, slot: int) -> None:
        self.pool.close(slot)

    def restart(self, slot: int) -> None:
        self.pool.restart(slot)

    def step(self, slots: Slots, joints: Floats) -> tuple[Floats, Floats]:
        """One frame of each of the (distinct) slots: joints (B, V, 4) → scores (B, 1 + K), boundaries (B, 2)."""
        pool, moment = self.pool, self.pool.now(slots)
        feeds = {"joints": joints, "rows": pool.read(self._first, moment)}
        scores, boundaries, rows = self._run(self._first, feeds)
        pool.write(self._first, moment, rows)
        for level in self._deeper:
            if due := pool.due(level, moment):
                (rows,) = self._run(level, {"rows": pool.read(level, due)})
                pool.write(level, due, rows)
        pool.advance(slots, moment)
        return scores, boundaries

    def replay(self, poses: Floats) -> tuple[Floats, Floats]:
        """Whole sequences (N, T, V, 4), side by side as slots allow → scores (N, T, 1 + K), boundaries (N, T, 2)."""
        some = [self._replay(poses[i : i + self.pool.slots]) for i in range(0, len(poses), self.pool.slots)]
        scores, boundaries = zip(*some, strict=True)
        return np.concatenate(scores), np.concatenate(boundaries)

    def _replay(self, poses: Floats) -> tuple[Floats, Floats]:
        slots = np.array([self.open() for _ in poses], np.int64)
        try:
            steps = [self.step(slots, poses[:, t]) for t in range(poses.shape[1])]
        finally:
            for slot in slots:
                self.close(int(slot))
        scores, boundaries = zip(*steps, strict=True)
        return np.stack(scores, axis=1), np.stack(boundaries, axis=1)


def check_golden(bundle: ModelBundle, scorer: StepScorer, tolerance: float = GOLDEN_TOLERANCE) -> float:
    """Replay the bundle's golden samples; the largest difference found. Raises BundleError above `tolerance`."""
    golden = bundle.golden()
    scores, boundaries = scorer.replay(golden.poses)
    worst = max(float(np.abs(scores - golden.scores).max()), float(np.abs(boundaries - golden.boundaries).max()))
    if not worst <= tolerance:
        raise BundleError(f"{bundle.path}: golden samples differ by {worst:.2e}, more than {tolerance:.0e}")
    return worst
