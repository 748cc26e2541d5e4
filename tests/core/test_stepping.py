"""The state pool against the plain meaning of rings: a level reads the row that was written `age` writes ago.

And the deeper levels that wait: for whom they run, when, and what a failure leaves behind.
"""

from collections.abc import Callable

import numpy as np
import pytest

from poseline.errors import EngineFailure, Overloaded, StateError
from poseline.manifest import StateSpec
from poseline.stepping import FULL, StatePool, StepScorer

SPEC = StateSpec.model_validate(
    {
        "width": 2,
        "rings": [{"name": "a", "length": 3}, {"name": "b", "length": 2}, {"name": "c", "length": 4}],
        "levels": [
            {
                "name": "fast",
                "graph": "",
                "every": 1,
                "reads": [{"ring": "a", "age": 3}, {"ring": "b", "age": 1}],
                "writes": ["a"],
            },
            {
                "name": "slow",
                "graph": "",
                "every": 3,
                "reads": [{"ring": "a", "age": 1}, {"ring": "c", "age": 4}],
                "writes": ["b", "c"],
            },
        ],
    }
)


class Recorder:
    """A network whose rows are its own history: each row holds (level's run number, stream mark)."""

    def __init__(self) -> None:
        self.mark = 0.0
        self.runs = {"fast": 0, "slow": 0}
        self.read: list[tuple[str, list[float]]] = []

    def __call__(self, level: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        rows = feeds["rows"]
        self.read.append((level, rows[0, ::2].tolist()))
        self.runs[level] += 1
        writes = {"fast": 1, "slow": 2}[level]
        out = np.full((len(rows), writes * 2), self.runs[level], np.float32)
        return [np.zeros((len(rows), 2))] * 3 + [out] if level == "fast" else [out]


def expected(frames: int) -> list[tuple[str, list[float]]]:
    """The same by lists: newest last, 0 for what was not there."""
    a: list[int] = []
    b: list[int] = []
    c: list[int] = []
    found: list[tuple[str, list[float]]] = []

    def back(ring: list[int], age: int) -> float:
        return float(ring[-age]) if len(ring) >= age else 0.0

    for t in range(frames):
        found.append(("fast", [back(a, 3), back(b, 1)]))
        a.append(t + 1)
        if (t + 1) % 3 == 0:
            found.append(("slow", [back(a, 1), back(c, 4)]))
            b.append(len(b) + 1)
            c.append(len(c) + 1)
    return found


def test_rows_are_read_by_age_through_many_periods() -> None:
    network = Recorder()
    scorer = StepScorer(SPEC, network, 1)
    slot = np.array([scorer.open()])
    for _ in range(100):
        scorer.step(slot, np.zeros((1, 16, 4), np.float32))
    assert network.read == expected(100)


@pytest.mark.parametrize("frames", [1, 2, 5, 36, 71, 100])
def test_a_reused_slot_reads_nothing_of_its_former_owner(frames: int) -> None:
    scorer = StepScorer(SPEC, Recorder(), 1)
    slot = np.array([scorer.open()])
    for _ in range(frames):
        scorer.step(slot, np.zeros((1, 16, 4), np.float32))
    scorer.close(int(slot[0]))
    network = Recorder()
    left = int(frames % 3 == 0)  # a level that the former owner's last frame left waiting runs once, before all else
    network.runs["slow"] -= left
    scorer._run = network
    slot = np.array([scorer.open()])
    for _ in range(40):
        scorer.step(slot, np.zeros((1, 16, 4), np.float32))
    assert network.read[left:] == expected(40)


def test_restart_forgets_what_was_seen() -> None:
    network = Recorder()
    scorer = StepScorer(SPEC, network, 1)
    slot = np.array([scorer.open()])
    for _ in range(50):
        scorer.step(slot, np.zeros((1, 16, 4), np.float32))
    network.read.clear()
    network.runs = {"fast": 0, "slow": 0}
    scorer.restart(int(slot[0]))
    for _ in range(50):
        scorer.step(slot, np.zeros((1, 16, 4), np.float32))
    assert network.read == expected(50)


class Batches:
    """A network that counts: what it writes is one more than the sum of what it read. Fails where it is told to."""

    def __init__(self) -> None:
        self.sizes: list[tuple[str, int]] = []
        self.failing: str | None = None

    def __call__(self, level: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        if level == self.failing:
            raise EngineFailure(f"{level} failed")
        rows = feeds["rows"]
        self.sizes.append((level, len(rows)))
        total = (rows.sum(axis=1) % 97 + 1).astype(np.float32)[:, None]
        if level == "slow":
            return [total.repeat(4, axis=1)]
        total += feeds["joints"].sum(axis=(1, 2))[:, None]
        return [total.repeat(2, axis=1)] * 4


def opened(network: Batches, streams: int) -> tuple[StepScorer, np.ndarray]:
    scorer = StepScorer(SPEC, network, streams)
    return scorer, np.array([scorer.open() for _ in range(streams)])


def alone(frames: int) -> list[float]:
    """Scores of a stream that nobody else disturbs."""
    scorer, slot = opened(Batches(), 1)
    return [float(scorer.step(slot, JOINTS)[0][0, 0]) for _ in range(frames)]


JOINTS = np.full((1, 16, 4), 0.25, np.float32)


def test_a_deeper_level_runs_for_all_that_wait_when_one_of_them_comes_again() -> None:
    network = Batches()
    scorer, slots = opened(network, 5)
    for _ in range(3):
        for slot in slots:
            scorer.step(slot[None], JOINTS)
    assert "slow" not in dict(network.sizes)
    scorer.step(slots[2:3], JOINTS)
    assert network.sizes[-2:] == [("slow", 5), ("fast", 1)]


def test_a_full_batch_of_waiting_streams_is_not_kept_waiting() -> None:
    network = Batches()
    scorer, slots = opened(network, FULL + 1)
    for _ in range(3):
        scorer.step(slots[:FULL], JOINTS.repeat(FULL, axis=0))
    scorer.step(slots[FULL:], JOINTS)
    assert network.sizes[-2:] == [("slow", FULL), ("fast", 1)]


def test_a_level_that_fails_loses_nothing_of_streams_outside_the_step() -> None:
    network = Batches()
    scorer, slots = opened(network, 2)
    first = [float(scorer.step(slots[:1], JOINTS)[0][0, 0]) for _ in range(3)]
    for _ in range(3):
        scorer.step(slots[1:], JOINTS)
    network.failing = "slow"
    with pytest.raises(EngineFailure, match="slow failed"):
        scorer.step(slots[1:], JOINTS)
    scorer.close(int(slots[1]))
    network.failing = None
    first += [float(scorer.step(slots[:1], JOINTS)[0][0, 0]) for _ in range(37)]
    assert first == alone(40)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 35, 36, 37, 38, 71, 72, 73, 100])
def test_a_saved_stream_goes_on_in_another_slot(frames: int) -> None:
    scorer, slots = opened(Batches(), 1)
    for _ in range(frames):
        scorer.step(slots, JOINTS)
    rows, clock = scorer.save(int(slots[0]))
    other, others = opened(Batches(), 3)
    for _ in range(51):  # a former owner with rows of its own, and a level that waits
        other.step(others, JOINTS.repeat(3, axis=0) * 3)
    other.load(int(others[1]), rows, clock)
    went_on = [float(other.step(others[1:2], JOINTS)[0][0, 0]) for _ in range(40)]
    assert went_on == alone(frames + 40)[frames:]


def test_a_saved_stream_carries_nothing_of_a_former_owner() -> None:
    scorer, slots = opened(Batches(), 1)
    for _ in range(50):
        scorer.step(slots, JOINTS)
    scorer.restart(int(slots[0]))
    assert not scorer.save(int(slots[0]))[0].any()
    scorer.step(slots, JOINTS)
    rows, clock = scorer.save(int(slots[0]))
    assert clock == 1
    assert rows.any(axis=1).tolist() == [True] + [False] * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows, clock: (rows[1:], clock), r"state rows are float32 \(8, 2\), expected float32 \(9, 2\)"),
        (lambda rows, clock: (rows.astype(float), clock), "state rows are float64"),
        (lambda rows, clock: (rows * np.nan, clock), "not finite"),
        (lambda rows, clock: (rows, 24), r"clock 24 is not in 0 … 23"),
        (lambda rows, clock: (rows, -1), "clock -1"),
    ],
)
def test_state_that_cannot_be_is_refused_and_harms_nothing(change: Callable, message: str) -> None:
    scorer, slots = opened(Batches(), 1)
    for _ in range(20):
        scorer.step(slots, JOINTS)
    with pytest.raises(StateError, match=message):
        scorer.load(int(slots[0]), *change(*scorer.save(int(slots[0]))))
    assert float(scorer.step(slots, JOINTS)[0][0, 0]) == alone(21)[-1]


def test_a_full_pool_says_so() -> None:
    pool = StatePool(SPEC, 2)
    pool.open()
    slot = pool.open()
    with pytest.raises(Overloaded, match="all 2 stream slots are taken"):
        pool.open()
    pool.close(slot)
    assert pool.open() == slot


def test_state_that_reads_beyond_a_ring_is_refused() -> None:
    broken = SPEC.model_dump()
    broken["levels"][0]["reads"][0]["age"] = 4
    with pytest.raises(ValueError, match="reads a at age 4, which no ring holds"):
        StateSpec.model_validate(broken)
