"""Classes from a few examples: the read-out, and a vocabulary that changes while streams run."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from poseline.decoding import DecodingOptions
from poseline.enrolment import CAPACITY, FALSE_SHARE, Bank, EnrolledClass, Example, Vocabulary, enrol
from poseline.errors import InputError, TooManyClasses
from poseline.online import OnlineLocalizer
from poseline.resampling import GridFrame
from poseline.stepping import StepScorer
from told_engine import MANIFEST, SPEC, add_up

WIDTH = 12
NOW = datetime(2026, 11, 22, tzinfo=UTC)
RNG = np.random.default_rng(0)
BANK = Bank(RNG.normal(3, 2, (4000, WIDTH)).astype(np.float32), RNG.uniform(0, 1, 4000).astype(np.float32))
"""Vectors are not centred, and their numbers not alike."""
MODEL = MANIFEST.fingerprint


def example(frames: int = 60, before: int = 90, after: int = 90, way: int = 0) -> Example:
    vectors = RNG.normal(3, 2, (before + frames + after, WIDTH)).astype(np.float32)
    vectors[before : before + frames, way] += 9
    return Example(vectors, before, before + frames)


def odds(one: EnrolledClass, vectors: np.ndarray, known: float | np.ndarray = 0.1) -> np.ndarray:
    return np.exp(vectors @ np.array(one.weights) + one.bias) * np.minimum(1, np.sqrt(1 / known - 1))


def test_an_enrolled_class_takes_its_share_of_the_bank_and_what_is_like_its_examples() -> None:
    for count in (1, 5):
        one = enrol("wave", MODEL, [example() for _ in range(count)], BANK, NOW)
        assert (one.name, one.model, one.examples, one.frames) == ("wave", MODEL, count, count * 54)
        assert np.mean(odds(one, *BANK) > 1) == pytest.approx(FALSE_SHARE, abs=2 / len(BANK))
        shown = example()
        assert np.mean(odds(one, shown.vectors[shown.first : shown.stop]) > 1) > 0.9
        assert np.mean(odds(one, example(way=1).vectors) > 1) < 0.05


def test_what_surrounds_an_example_is_what_it_is_not() -> None:
    """Somebody always holds a ball while they do it, and before, and after."""

    def with_a_ball(one: Example) -> Example:
        one.vectors[:, 5] += 6
        return one

    shown, ball = with_a_ball(example()), np.zeros(WIDTH, np.float32)
    ball[5] = 6
    among = enrol("wave", MODEL, [shown], BANK, NOW)
    alone = enrol("wave", MODEL, [Example(shown.vectors[shown.first : shown.stop], 0, 60)], BANK, NOW)
    assert np.mean(odds(among, BANK.vectors + ball) > 1) < 0.8 * np.mean(odds(alone, BANK.vectors + ball) > 1)


def test_what_else_shows_the_class_in_a_recording_is_not_what_it_is_not() -> None:
    one = example(before=140)
    also = one._replace(also=[(60, 90)])
    without = Example(np.delete(one.vectors, slice(52, 98), axis=0), one.first - 46, one.stop - 46)
    assert enrol("wave", MODEL, [also], BANK, NOW) == enrol("wave", MODEL, [without], BANK, NOW)
    assert enrol("wave", MODEL, [also], BANK, NOW) != enrol("wave", MODEL, [one], BANK, NOW)


@pytest.mark.parametrize("count", [0, 6])
def test_one_to_five_examples(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} examples came, expected 1 to 5"):
        enrol("wave", MODEL, [example() for _ in range(count)], BANK, NOW)


def test_an_example_of_a_moment_is_none() -> None:
    with pytest.raises(InputError, match="example 1 has 7 frames"):
        enrol("wave", MODEL, [example(), example(frames=7)], BANK, NOW)


# --- a vocabulary -----------------------------------------------------------------------------------------------------


def read_out(name: str, weight: float = 1.0, bias: float = 0.0, model: str = MODEL) -> EnrolledClass:
    return EnrolledClass(name, model, [weight], bias, 1, 30, NOW)


def test_the_known_classes_keep_their_scores_and_new_ones_take_from_background() -> None:
    vocabulary = Vocabulary(MANIFEST)
    scores, vectors = np.array([[0.3, 0.7], [0.9, 0.1]], np.float32), np.array([[0.0], [2.0]], np.float32)
    assert vocabulary.answer(scores, vectors) is scores
    assert vocabulary.put(read_out("bow")) == 2
    assert vocabulary.put(read_out("nod", bias=-1.0)) == 3
    told = vocabulary.answer(scores, vectors)
    assert told.shape == (2, 4)
    assert (told[:, 1] == scores[:, 1]).all(), "to the last bit"
    novelty = np.sqrt(0.3 / 0.7)
    bow, nod = novelty, novelty * np.exp(-1)
    assert told[0] == pytest.approx(np.array([0.3, 0.7 * (1 + bow + nod), bow, nod]) / (1 + bow + nod))
    bow, nod = np.exp(2), np.exp(1)
    assert told[1] == pytest.approx(np.array([0.9, 0.1 * (1 + bow + nod), bow, nod]) / (1 + bow + nod))
    sure = vocabulary.answer(np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), vectors * 1e4)
    assert np.isfinite(sure).all(), "nothing overflows"


def test_a_class_keeps_its_place_and_what_is_gone_scores_nothing() -> None:
    vocabulary = Vocabulary(MANIFEST)
    vocabulary.put(read_out("bow"))
    vocabulary.put(read_out("nod"))
    assert vocabulary.classes == ("background", "wave", "bow", "nod")
    assert vocabulary.drop("bow")
    assert not vocabulary.drop("bow")
    assert not vocabulary.drop("wave"), "the model's own stay"
    assert vocabulary.find("nod") == 3
    assert vocabulary.by_label_id == ("background", "wave", "", "nod")
    told = vocabulary.answer(np.array([[0.5, 0.5]], np.float32), np.ones((1, 1), np.float32))
    assert told.shape == (1, 4)
    assert told[0, 2] == 0
    assert vocabulary.put(read_out("jump")) == 4, "a place that has just been left is taken last"
    assert vocabulary.put(read_out("nod", weight=-3.0)) == 3
    assert [one.name for one in vocabulary.enrolled] == ["nod", "jump"]
    assert vocabulary.mask(["wave", "jump"]).nonzero()[0].tolist() == [0, 3]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="has no class bow"):
        vocabulary.mask(["bow"])


def test_what_cannot_be_put() -> None:
    vocabulary = Vocabulary(MANIFEST)
    for wrong, why in (
        (read_out("wave"), "one of the model's own"),
        (read_out("bow", model="other"), "another model"),
        (EnrolledClass("bow", MODEL, [1.0, 2.0], 0.0, 1, 30, NOW), "another model"),
    ):
        with pytest.raises(InputError, match=why):
            vocabulary.put(wrong)
    for n in range(CAPACITY):
        vocabulary.put(read_out(str(n)))
    with pytest.raises(TooManyClasses):
        vocabulary.put(read_out("one more"))
    vocabulary.put(read_out("7", weight=2.0))
    vocabulary.drop("3")
    assert vocabulary.put(read_out("one more")) == 2 + 3


# --- streams that run while it changes ----------------------------------------------------------------------------------


class Stream:
    """One track of a network whose vector is the sum of what it saw. Its own class never answers."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        def run(level: str, feeds: dict) -> list[np.ndarray]:
            *_, total = add_up(level, feeds)
            known = np.repeat(np.array([[1.0, 0.0]], np.float32), len(total), axis=0)
            return [known, np.zeros((len(total), 2), np.float32), total, total]

        self.localizer = OnlineLocalizer(MANIFEST, StepScorer(SPEC, run, 2), vocabulary)
        self.slot = self.localizer.open(DecodingOptions(min_duration=0.3))
        self._first = True

    def push(self, value: float, times: int = 1) -> list[tuple[str, str]]:
        told = []
        for n in range(times):
            frame = GridFrame(0.0, np.full((16, 4), value if n == 0 else 0.0, np.float32), self._first)
            self._first = False
            step = self.localizer.step(np.array([self.slot]), [frame])
            told += [(event.phase, event.label) for _, event in step.events]
        return told


def test_a_class_that_is_enrolled_answers_in_a_stream_that_runs_and_one_that_is_dropped_ends() -> None:
    vocabulary = Vocabulary(MANIFEST)
    stream = Stream(vocabulary)
    assert stream.push(3.0, 30) == []
    vocabulary.put(read_out("bow"))
    assert stream.push(0.0, 30) == [("started", "bow")]
    vocabulary.drop("bow")
    assert stream.push(0.0, 10) == [("final", "bow")]
    vocabulary.put(read_out("bow"))
    assert stream.push(0.0, 3) == [("started", "bow")]


def test_what_is_open_of_an_enrolled_class_travels_by_its_name() -> None:
    here, there, elsewhere = (Vocabulary(MANIFEST) for _ in range(3))
    here.put(read_out("bow"))
    here.put(read_out("nod", bias=-60.0))
    there.put(read_out("nod", bias=-60.0))
    there.put(read_out("bow"))
    first = Stream(here)
    assert first.push(3.0, 20) == [("started", "bow")]
    state = first.localizer.save(first.slot)
    for vocabulary, expected in ((there, [("final", "bow")]), (elsewhere, [])):
        second = Stream(vocabulary)
        second._first = False
        second.localizer.load(second.slot, state)
        assert second.push(-30.0, 10) == expected
