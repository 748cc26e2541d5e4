"""Frame by frame through ONNX Runtime = torch over the full sequence, whatever happens around a stream.

Every test draws who steps when, with whom, in which slot, and when deeper levels run; scores must stay within 1e-5. The
negative controls show that a stream that loses its memory would be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseline import stepping
from poseline.bundle import find_bundle
from poseline.stepping import StepScorer
from poseline_service.engine import open_scorer

EXACT, SEEN = 1e-5, 1e-3
SLOTS = 4
PROJECT = Path(__file__).parents[2]


class House:
    """Two scorers of one network whose slots streams come to, leave, and move between; each score checked at once."""

    def __init__(self, truth) -> None:  # type: ignore[no-untyped-def]
        self.truth = truth
        self.scorers = [open_scorer(truth.bundle, SLOTS) for _ in range(2)]
        self.place: dict[int, tuple[int, int]] = {}  # stream → scorer, slot
        self.clock = dict.fromkeys(range(len(truth.poses)), 0)
        self.worst = 0.0

    def come(self, stream: int, scorer: int) -> None:
        if stream not in self.place and self.scorers[scorer].pool.used < SLOTS:
            self.place[stream] = scorer, self.scorers[scorer].open()
            self.clock[stream] = 0

    def leave(self, stream: int) -> None:
        if stream in self.place:
            scorer, slot = self.place.pop(stream)
            self.scorers[scorer].close(slot)

    def restart(self, stream: int) -> None:
        if stream in self.place:
            scorer, slot = self.place[stream]
            self.scorers[scorer].restart(slot)
            self.clock[stream] = 0

    def move(self, stream: int, scorer: int) -> None:
        """Saved here, gone on there: in another slot, perhaps of the other scorer."""
        if stream in self.place and self.scorers[scorer].pool.used < SLOTS:
            old, slot = self.place[stream]
            state = self.scorers[old].save(slot)
            self.place[stream] = scorer, self.scorers[scorer].open()
            self.scorers[scorer].load(self.place[stream][1], *state)
            self.scorers[old].close(slot)

    def step(self, streams: set[int], chunk: int) -> None:
        """Some streams side by side, a few frames long, in each scorer."""
        for which, scorer in enumerate(self.scorers):
            for _ in range(chunk):
                some = [one for one in streams if self.place.get(one, (None,))[0] == which]
                some = [one for one in some if self.clock[one] < self.truth.poses.shape[1]]
                if some:
                    self._step(scorer, some)

    def _step(self, scorer: StepScorer, some: list[int]) -> None:
        at = [self.clock[one] for one in some]
        slots = np.array([self.place[one][1] for one in some])
        scores, boundaries, _ = scorer.step(slots, self.truth.poses[some, at])
        worst = max(
            np.abs(scores - self.truth.scores[some, at]).max(),
            np.abs(boundaries - self.truth.boundaries[some, at]).max(),
        )
        self.worst = max(self.worst, float(worst))
        for one in some:
            self.clock[one] += 1


STREAM, SCORER = st.integers(0, 5), st.integers(0, 1)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), STREAM, SCORER),
        st.tuples(st.just("step"), st.sets(STREAM, min_size=1), st.integers(1, 40)),
        st.tuples(st.just("step"), st.sets(STREAM, min_size=1, max_size=2), st.integers(1, 5)),
        st.tuples(st.just("move"), STREAM, SCORER),
        st.tuples(st.just("restart"), STREAM),
        st.tuples(st.just("leave"), STREAM),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, full=st.integers(1, 8))
def test_whatever_happens_around_a_stream_its_scores_are_the_full_sequence_s(truth, events, full) -> None:  # type: ignore[no-untyped-def]
    house = House(truth)
    for stream in range(4):
        house.come(stream, stream % 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping, "FULL", full)  # how many streams a deeper level waits for
        for name, *arguments in events:
            getattr(house, name)(*arguments)
    assert house.worst < EXACT


def difference(truth, spoil: Callable[[StepScorer, int], None], at: int) -> float:  # type: ignore[no-untyped-def]
    """The largest difference after something has happened to a stream's slot at frame `at`."""
    scorer = open_scorer(truth.bundle, 1)
    slot = scorer.open()
    worst = 0.0
    for t in range(100):
        if t == at:
            spoil(scorer, slot)
        scores, *_ = scorer.step(np.array([slot]), truth.poses[:1, t])
        worst = max(worst, float(np.abs(scores - truth.scores[:1, t]).max()))
    return worst


@settings(max_examples=15, deadline=None)
@given(at=st.integers(1, 90))
def test_a_stream_whose_memory_is_dropped_would_be_seen(truth, at: int) -> None:  # type: ignore[no-untyped-def]
    assert difference(truth, lambda scorer, slot: scorer.restart(slot), at) > SEEN
    assert difference(truth, lambda scorer, slot: scorer.load(slot, *scorer.save(slot)), at) < EXACT


@pytest.mark.parametrize("level", ["mid", "deep"])
def test_a_waiting_level_that_never_ran_would_be_seen(truth, level: str) -> None:  # type: ignore[no-untyped-def]
    def forget(scorer: StepScorer, slot: int) -> None:
        assert scorer._waiting[level].pop(slot)

    assert difference(truth, forget, 60) > SEEN


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_default_bundle_s_golden_samples_in_any_order_of_steps(data: st.DataObject) -> None:
    bundle = find_bundle(PROJECT / "models")
    golden = bundle.golden()
    scorer = open_scorer(bundle, 5)
    count, frames = golden.poses.shape[:2]
    slots = np.array([scorer.open() for _ in range(count)])
    clock = np.zeros(count, int)
    worst = 0.0
    while (some := np.flatnonzero(clock < frames)).size:
        some = some[: data.draw(st.integers(1, some.size))] if data.draw(st.booleans()) else some[-1:]
        for _ in range(min(data.draw(st.integers(1, 30)), frames - int(clock[some].max()))):
            scores, boundaries, _ = scorer.step(slots[some], golden.poses[some, clock[some]])
            worst = max(worst, float(np.abs(scores - golden.scores[some, clock[some]]).max()))
            worst = max(worst, float(np.abs(boundaries - golden.boundaries[some, clock[some]]).max()))
            clock[some] += 1
    assert worst < EXACT
