"""Frame by frame through the network: the state pool and the step.

The pool is one array of state rows; a stream owns a *slot* of them and a frame counter. A step gathers the rows that a
level reads, runs its graph, and scatters the rows it wrote. Row 0 is always zero, and a tap from before the stream's
first frame reads it, so a slot needs no reset: whatever its former owner left is never read.

The graphs themselves are a callable, so that this module knows no runtime. Not thread-safe: one owner.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    The first level takes `joints` (B, V, 4) and `rows` (B, taps, width) and gives scores (B, 1 + K), boundaries (B, 2)
    and rows (B, writes, width); every other level takes and gives rows alone.
    """

    def __call__(self, level: str, feeds: dict[str, Floats]) -> Sequence[Floats]: ...


class _LevelRows:
    """Where one level's rows lie in a slot, as arrays ready for broadcasting over a batch."""

    def __init__(self, spec: StateSpec, level: LevelSpec) -> None:
        base: dict[str, int] = {}
        length: dict[str, int] = {}
        every: dict[str, int] = {}
        order: dict[str, int] = {}
        at = 0
        for ring in spec.rings:
            base[ring.name], length[ring.name] = at, ring.length
            at += ring.length
        for i, one in enumerate(spec.levels):
            for name in one.writes:
                every[name], order[name] = one.every, i
        own = spec.levels.index(level)
        rings = [tap.ring for tap in level.reads]
        self.read_base = np.array([base[name] for name in rings], np.int64)
        self.read_length = np.array([length[name] for name in rings], np.int64)
        self.read_every = np.array([every[name] for name in rings], np.int64)
        # A ring of an earlier level has already been written in this very frame.
        self.read_ahead = np.array([int(order[name] < own) for name in rings], np.int64)
        self.read_age = np.array([tap.age for tap in level.reads], np.int64)
        self.write_base = np.array([base[name] for name in level.writes], np.int64)
        self.write_length = np.array([length[name] for name in level.writes], np.int64)
        self.every = level.every


class StatePool:
    """State rows of up to `slots` streams; float32 (1 + slots × rows, width)."""

    def __init__(self, spec: StateSpec, slots: int) -> None:
        self.spec = spec
        self.slots = slots
        self._rows = np.zeros((1 + slots * spec.rows, spec.width), np.float32)
        self._count = np.zeros(slots, np.int64)  # frames seen
        self._levels = {level.name: _LevelRows(spec, level) for level in spec.levels}
        self._free = list(range(slots - 1, -1, -1))

    @property
    def used(self) -> int:
        return self.slots - len(self._free)

    def open(self) -> int:
        """A slot for a new stream. Raises Overloaded when all are taken."""
        if not self._free:
            raise Overloaded(f"all {self.slots} stream slots are taken")
        slot = self._free.pop()
        self._count[slot] = 0
        return slot

    def close(self, slot: int) -> None:
        self._free.append(slot)

    def restart(self, slot: int) -> None:
        """Forget everything that the slot's stream has seen."""
        self._count[slot] = 0

    def due(self, level: str, slots: Slots) -> Slots:
        """Those of `slots` for which the level runs at this frame."""
        every = self._levels[level].every
        return slots if every == 1 else slots[(self._count[slots] + 1) % every == 0]

    def read(self, level: str, slots: Slots) -> Floats:
        """The rows that the level reads: (B, taps, width)."""
        at = self._levels[level]
        seen = self._count[slots][:, None] + at.read_ahead
        position = seen // at.read_every - at.read_age
        rows = 1 + slots[:, None] * self.spec.rows + at.read_base + position % at.read_length
        return self._rows[np.where(position >= 0, rows, 0)]

    def write(self, level: str, slots: Slots, rows: Floats) -> None:
        """Store the rows (B, writes, width) that the level made."""
        at = self._levels[level]
        position = (self._count[slots] // at.every)[:, None]
        self._rows[1 + slots[:, None] * self.spec.rows + at.write_base + position % at.write_length] = rows

    def advance(self, slots: Slots) -> None:
        self._count[slots] += 1


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
        feeds = {"joints": joints, "rows": self.pool.read(self._first, slots)}
        scores, boundaries, rows = self._run(self._first, feeds)
        self.pool.write(self._first, slots, rows)
        for level in self._deeper:
            due = self.pool.due(level, slots)
            if len(due):
                (rows,) = self._run(level, {"rows": self.pool.read(level, due)})
                self.pool.write(level, due, rows)
        self.pool.advance(slots)
        return scores, boundaries

    def replay(self, poses: Floats) -> tuple[Floats, Floats]:
        """Whole sequences (N, T, V, 4) side by side → scores (N, T, 1 + K), boundaries (N, T, 2)."""
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
