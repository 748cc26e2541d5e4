"""The operating point by hand, and intervals against what can be reckoned."""

from dataclasses import dataclass

import numpy as np
import pytest

from poseline.errors import CorpusError
from poseline_training.metrics.bootstrap import Interval, bootstrap, by_person, paired_bootstrap
from poseline_training.metrics.operating import operating_point


def test_the_operating_point_by_hand() -> None:
    truths = [[(0.0, 10.0, 1), (20.0, 30.0, 2)]]
    finals = [[(1.0, 10.5, 1, 10.6), (1.0, 9.0, 1, 10.7), (40.0, 41.0, 2, 41.5)]]
    found = operating_point(finals, truths, started=4, retracted=1, minutes=2.0)
    assert found["found"] == 0.5
    assert found["missed"] == 0.5
    assert (found["start_error"], found["end_error"]) == (1.0, 0.5)
    assert found["final_delay"] == found["final_delay_p95"] == pytest.approx(0.6)
    assert found["false_per_minute"] == 0.5, "a second detection of the same action is no false alarm, only wrong"
    assert found["retracted"] == 0.25


def test_a_badly_placed_final_is_neither_right_nor_a_false_alarm_nor_a_miss() -> None:
    found = operating_point([[(0.0, 3.0, 1, 3.1)]], [[(0.0, 10.0, 1)]], 1, 0, 1.0)
    assert (found["found"], found["missed"], found["false_per_minute"]) == (0, 0, 0)
    assert np.isnan(found["end_error"])
    touching = operating_point([[(0.0, 0.9, 1, 1.0)]], [[(0.0, 10.0, 1)]], 1, 0, 1.0)
    assert (touching["missed"], touching["false_per_minute"]) == (1, 1), "a tIoU of .09 does not touch"


def test_delays_are_told_by_percentiles() -> None:
    truths = [[(10.0 * k, 10.0 * k + 5, 1) for k in range(21)]]
    finals = [[(a, b, c, b + 0.1 * k) for k, (a, b, c) in enumerate(truths[0])]]
    found = operating_point(finals, truths, 21, 0, 4.0)
    assert found["final_delay_p50"] == pytest.approx(1.0)
    assert found["final_delay_p95"] == pytest.approx(1.9)


def test_where_nothing_happens_every_final_is_false() -> None:
    found = operating_point([[(0.0, 1.0, 1, 1.1)], [(0.0, 1.0, 2, 1.1), (3.0, 4.0, 1, 4.1)]], [[], []], 5, 2, 30.0)
    assert found["false_per_minute"] * 60 == 6
    assert np.isnan(found["missed"])
    assert np.isnan(found["found"])
    assert found["retracted"] == 0.4


# --- intervals --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    corpus: str
    person: str
    worth: float


def mean(recordings: list[Recording]) -> dict[str, float]:
    return {"worth": float(np.mean([one.worth for one in recordings]))}


def people(worths: list[float], recordings: int = 1, corpus: str = "a") -> list[Recording]:
    return [Recording(corpus, f"p{k:02}", worth) for k, worth in enumerate(worths) for _ in range(recordings)]


def test_persons_are_told_apart_within_a_corpus() -> None:
    some = [*people([1.0, 2.0], 2), *people([3.0], corpus="b")]
    assert {key: len(group) for key, group in by_person(some).items()} == {
        ("a", "p00"): 2,
        ("a", "p01"): 2,
        ("b", "p00"): 1,
    }
    with pytest.raises(CorpusError, match="does not tell its persons apart"):
        by_person([Recording("a", "", 0.0)])


def test_two_persons_have_the_interval_between_them_however_many_recordings() -> None:
    expected = Interval(0.5, 0.2, 0.8)
    assert bootstrap([people([0.2, 0.8])], mean)["worth"] == expected
    many = bootstrap([people([0.2, 0.8], recordings=500)], mean)["worth"]
    assert (many.value, many.low, many.high) == pytest.approx((0.5, 0.2, 0.8)), "recordings of one person add nothing"


def test_the_width_is_that_of_the_standard_error() -> None:
    worths = np.random.default_rng(3).normal(0.5, 0.1, 40)
    found = bootstrap([people(worths.tolist())], mean, draws=4000)["worth"]
    error = worths.std() / np.sqrt(40)
    assert found.value == pytest.approx(worths.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    half = bootstrap([people(worths.tolist())], mean, draws=4000, share=0.5)["worth"]
    assert half.high - half.low == pytest.approx(2 * 0.674 * error, rel=0.1)


def test_every_draw_is_the_statistic_of_whole_persons() -> None:
    """Against the plain loop: draw persons, join their recordings, compute. Uneven persons, a statistic that is no sum."""
    rng = np.random.default_rng(5)
    some = [Recording("a", f"p{k}", float(rng.normal())) for k in range(4) for _ in range(3 * k + 1)]

    def top(recordings: list[Recording]) -> dict[str, float]:
        return {"top": float(np.quantile([one.worth for one in recordings], 0.8))}

    groups = [[one for one in some if one.person == f"p{k}"] for k in range(4)]
    plain = [top([one for k in rng.integers(4, size=4) for one in groups[k]])["top"] for _ in range(20_000)]
    found = bootstrap([some], top, draws=20_000)["top"]
    assert (found.low, found.high) == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.02)


def test_over_sets_it_is_the_mean_of_theirs() -> None:
    sets = [people([0.0, 1.0]), people([0.5, 0.5], recordings=9, corpus="b")]
    found = bootstrap(sets, mean)["worth"]
    assert (found.value, found.low, found.high) == (0.5, 0.25, 0.75)


def test_a_difference_is_taken_on_the_same_persons() -> None:
    """Persons differ much, systems little: unpaired intervals overlap, the paired one is sure."""
    worths = np.linspace(0.1, 0.9, 12)
    ours, theirs = [people((worths + 0.02).tolist())], [people(worths.tolist())]
    found = paired_bootstrap(ours, theirs, mean)["worth"]
    assert (found.value, found.low, found.high) == pytest.approx((0.02, 0.02, 0.02))
    assert bootstrap(ours, mean)["worth"].low < bootstrap(theirs, mean)["worth"].high
    with pytest.raises(CorpusError, match="different persons"):
        paired_bootstrap(ours, [people(worths[:-1].tolist())], mean)


def test_draws_without_a_figure_are_left_out() -> None:
    def kind(recordings: list[Recording]) -> dict[str, float]:
        good = [one.worth for one in recordings if one.worth > 0]
        return {"good": float(np.mean(good)) if good else float("nan"), "never": float("nan")}

    found = bootstrap([people([0.4, -1.0, 0.6])], kind)
    assert found["good"] == Interval(0.5, 0.4, 0.6)
    assert np.isnan([found["never"].value, found["never"].low, found["never"].high]).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    some = [people(np.random.default_rng(0).random(9).tolist())]
    assert bootstrap(some, mean, seed=4) == bootstrap(some, mean, seed=4)
    assert bootstrap(some, mean, seed=4) != bootstrap(some, mean, seed=5)
