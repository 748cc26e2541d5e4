"""The state pool against the plain meaning of rings: a level reads the row that was written `age` writes ago."""

import numpy as np
import pytest

from poseline.errors import Overloaded
from poseline.manifest import StateSpec
from poseline.stepping import StatePool, StepScorer

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
        return [np.zeros((len(rows), 2)), np.zeros((len(rows), 2)), out] if level == "fast" else [out]


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
    scorer._run = network
    slot = np.array([scorer.open()])
    for _ in range(40):
        scorer.step(slot, np.zeros((1, 16, 4), np.float32))
    assert network.read == expected(40)


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
