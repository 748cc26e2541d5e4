"""Frame by frame through the network: the state pool and the step.

The pool is one array of state rows; a stream owns a *slot* of them and a frame counter. A step gathers the rows that the
first level reads, runs its graph, and scatters the rows it wrote. A slot's row 0 is always zero, and a tap from before
the stream's first frame reads it, so a slot needs no reset: whatever its former owner left is never read.

Deeper levels make no scores, so they need not run at once. They wait until one of their streams comes again (or is saved),
or until `FULL` streams wait; then they run for all that wait, side by side. That gives every stream the same rows, and
pays a level's fixed cost once for dozens of streams where frames come a few at a time.

The graphs themselves are a callable, so that this module knows no runtime.

Concurrency: `open`, `close` and `restart` belong to one thread; all else, and with it every state row, to another or the
same. A closed slot's waiting levels are harmless: they run before the slot's next frame, into rows that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from poseline.bundle import GOLDEN_TOLERANCE, ModelBundle
from poseline.errors import BundleError, Overloaded, StateError
from poseline.manifest import LevelSpec, StateSpec
from poseline.skeleton import Floats

Slots = NDArray[np.int64]

FULL = 64
"""Streams that wait for a deeper level before it runs without being asked for: a well-fed batch, a fraction of a ms."""


class GraphRunner(Protocol):
    """Runs one level's graph.

    The first level takes `joints` (B, V, 4) and `rows` (B, taps · width), side by side, and gives scores (B, 1 + K),
    boundaries (B, 2), vectors (B, D) and rows (B, writes · width); every other level takes and gives rows alone. What it
    gives may be overwritten by the level's next run.
    """

    def __call__(self, level: str, feeds: dict[str, Floats]) -> Sequence[Floats]: ...


class Answer(NamedTuple):
    """What a network says of frames (…): scores (…, 1 + K), boundaries (…, 2) = start and end, and the vectors (…, D) that
    both were read from, by which a frame can be compared with others."""

    scores: Floats
    boundaries: Floats
    vectors: Floats


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
        reads = np.zeros((phases, len(level.reads)), np.int64)
        for i, tap in enumerate(level.reads):
            # A ring of an earlier level has already been written in this very frame.
            written = (seen + (writer[tap.ring] < own)) // spec.levels[writer[tap.ring]].every
            position = written - tap.age
            reads[:, i] = np.where(position >= 0, base[tap.ring] + position % length[tap.ring], 0)
        writes = [base[name] + seen // level.every % length[name] for name in level.writes]
        self.taps = len(level.reads)
        self.touched = np.concatenate([reads, np.stack(writes, axis=1)], axis=1)  # read first, then written


class Moment(NamedTuple):
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
        self._period = math.lcm(*(ring.length * every[ring.name] for ring in spec.rings), *every.values())
        self._levels = {level.name: _LevelRows(spec, level, 2 * self._period) for level in spec.levels}
        self._next = np.arange(1, 2 * self._period + 1)
        self._next[-1] = self._period
        # One opaque item per row: numpy gathers and scatters items two to ten times faster than rows of floats.
        self._item = np.dtype((np.void, 4 * spec.width))
        self._rows = np.zeros(slots * (1 + spec.rows), self._item)
        self._first = np.arange(slots)[:, None] * (1 + spec.rows)
        self._phase = np.zeros(slots, np.int64)
        self._free = list(range(slots - 1, -1, -1))
        place = np.concatenate([np.arange(ring.length) for ring in spec.rings])
        rate = np.concatenate([np.full(ring.length, every[ring.name]) for ring in spec.rings])
        self._written_by = (place + 1) * rate  # frames after which each row has been written

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

    def due(self) -> list[list[str]]:
        """The levels that run at a frame, in order, by the stream's phase."""
        return [[name for name, rows in self._levels.items() if rows.due[p]] for p in range(2 * self._period)]

    def now(self, slots: Slots) -> Moment:
        """Where the streams of `slots` stand; to be read and written before `advance`."""
        return Moment(self._first.take(slots, axis=0), self._phase.take(slots))

    def then(self, phases: dict[int, int]) -> Moment:
        """Where the streams of some slots stood: slot → phase."""
        slots = np.fromiter(phases, np.int64, len(phases))
        return Moment(self._first.take(slots, axis=0), np.fromiter(phases.values(), np.int64, len(phases)))

    def touched(self, level: str, moment: Moment) -> tuple[Slots, Slots]:
        """Which rows the level reads (B, taps) and which it writes (B, writes)."""
        table = self._levels[level]
        rows = table.touched.take(moment.phase, axis=0)
        rows += moment.first
        return rows[:, : table.taps], rows[:, table.taps :]

    def read(self, places: Slots) -> Floats:
        """Rows side by side: (B, taps · width)."""
        return self._rows.take(places).view(np.float32)

    def write(self, places: Slots, rows: Floats) -> None:
        """Store rows (B, writes · width)."""
        self._rows[places] = rows.view(self._item)

    def advance(self, slots: Slots, moment: Moment) -> None:
        self._phase[slots] = self._next.take(moment.phase)

    def save(self, slot: int) -> tuple[Floats, int]:
        """The stream's rows (R, width), zero where it has written none yet, and its phase: see `StepScorer.save`."""
        phase, first = int(self._phase[slot]), int(self._first[slot, 0])
        rows = self._rows[first + 1 : first + 1 + self.spec.rows].copy().view(np.float32).reshape(self.spec.rows, -1)
        rows[self._written_by > phase] = 0  # what lies there is a former owner's
        return rows, phase

    def load(self, slot: int, rows: Floats, clock: int) -> None:
        """Raises StateError."""
        expected = (self.spec.rows, self.spec.width)
        if rows.shape != expected or rows.dtype != np.float32:
            raise StateError(f"state rows are {rows.dtype} {rows.shape}, expected float32 {expected}")
        if not 0 <= clock < 2 * self._period:
            raise StateError(f"clock {clock} is not in 0 … {2 * self._period - 1}")
        if not np.isfinite(rows).all():
            raise StateError("state rows hold numbers that are not finite")
        self.restore(slot, rows, clock)

    def restore(self, slot: int, rows: Floats, clock: int) -> None:
        """Put back what `save` gave, whatever it holds."""
        first = int(self._first[slot, 0])
        self._rows[first + 1 : first + 1 + self.spec.rows] = np.ascontiguousarray(rows).view(self._item)[:, 0]
        self._phase[slot] = clock


class StepScorer:
    """A network ready to run frame by frame for many streams at once."""

    def __init__(self, spec: StateSpec, run: GraphRunner, slots: int) -> None:
        self.pool = StatePool(spec, slots)
        self._run = run
        self._first, *deeper = [level.name for level in spec.levels]
        self._waiting: dict[str, dict[int, int]] = {level: {} for level in deeper}  # level → slot → phase
        self._due: list[list[dict[int, int]]] = [
            [self._waiting[level] for level in due if level in deeper] for due in self.pool.due()
        ]

    def open(self) -> int:
        return self.pool.open()

    def close(self, slot: int) -> None:
        self.pool.close(slot)

    def restart(self, slot: int) -> None:
        self.pool.restart(slot)

    def step(self, slots: Slots, joints: Floats) -> Answer:
        """One frame of each of the (distinct) slots: joints (B, V, 4)."""
        pool, names = self.pool, cast(list[int], slots.tolist())
        self._settle(names)
        moment = pool.now(slots)
        reads, writes = pool.touched(self._first, moment)
        *answer, rows = self._run(self._first, {"joints": joints, "rows": pool.read(reads)})
        pool.write(writes, rows)
        pool.advance(slots, moment)
        for slot, phase in zip(names, cast(list[int], moment.phase.tolist()), strict=True):
            for waiting in self._due[phase]:
                waiting[slot] = phase
        return Answer(*(one.copy() for one in answer))

    def _settle(self, slots: Sequence[int]) -> None:
        """Run the deeper levels that wait, if one of these slots needs them or a full batch has come together."""
        for waiting in self._waiting.values():
            if len(waiting) >= FULL or not waiting.keys().isdisjoint(slots):
                self._run_waiting()
                return

    def _run_waiting(self) -> None:
        """A level that fails, and those after it, go on waiting: streams that have no part in this step lose nothing."""
        for level, waiting in self._waiting.items():
            if waiting:
                reads, writes = self.pool.touched(level, self.pool.then(waiting))
                (rows,) = self._run(level, {"rows": self.pool.read(reads)})
                self.pool.write(writes, rows)
                waiting.clear()

    def save(self, slot: int) -> tuple[Floats, int]:
        """A stream's whole memory: its rows (R, width), ring by ring, and its clock. Only `load` reads them."""
        self._settle([slot])
        return self.pool.save(slot)

    def load(self, slot: int, rows: Floats, clock: int) -> None:
        """Go on in this slot where a stream was saved, here or by another scorer of the same network.

        Raises StateError where rows or clock cannot be a stream's of this network; the slot is then as it was.
        """
        self._settle([slot])
        self.pool.load(slot, rows, clock)

    def hold(self, slot: int, pose: Floats, frames: int) -> Answer:
        """What the network would answer if the stream stood still in `pose` (V, 4) for so many frames (one or more). The
        stream goes on afterwards as if it had not been asked."""
        saved, slots = self.save(slot), np.array([slot])
        try:
            steps = [self.step(slots, pose[None]) for _ in range(frames)]
        finally:
            for waiting in self._waiting.values():  # of what was only asked: nobody will read it
                waiting.pop(slot, None)
            self.pool.restore(slot, *saved)
        return Answer(*map(np.concatenate, zip(*steps, strict=True)))

    def replay(self, poses: Floats) -> Answer:
        """Whole sequences (N, T, V, 4), side by side as slots allow: what is said of each frame (N, T)."""
        some = [self._replay(poses[i : i + self.pool.slots]) for i in range(0, len(poses), self.pool.slots)]
        return Answer(*map(np.concatenate, zip(*some, strict=True)))

    def _replay(self, poses: Floats) -> Answer:
        slots = np.array([self.open() for _ in poses], np.int64)
        try:
            steps = [self.step(slots, poses[:, t]) for t in range(poses.shape[1])]
        finally:
            for slot in slots:
                self.close(int(slot))
        return Answer(*(np.stack(one, axis=1) for one in zip(*steps, strict=True)))


def check_golden(bundle: ModelBundle, scorer: StepScorer, tolerance: float = GOLDEN_TOLERANCE) -> float:
    """Replay the bundle's golden samples; the largest difference found. Raises BundleError above `tolerance`."""
    golden = bundle.golden()
    expected = golden.scores, golden.boundaries, golden.vectors
    worst = max(
        float(np.abs(one - other).max()) for one, other in zip(scorer.replay(golden.poses), expected, strict=True)
    )
    if not worst <= tolerance:
        raise BundleError(f"{bundle.path}: golden samples differ by {worst:.2e}, more than {tolerance:.0e}")
    return worst
