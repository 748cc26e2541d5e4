"""Leaving people out: who is held out where, no fold has seen whom it is judged on, and decoding needs no training."""

import json
from pathlib import Path

import numpy as np
import pytest

from little_corpora import FRAMES, tiny, write_corpora
from poseline.decoding import DecodingOptions
from poseline.errors import InputError
from poseline_training.corpus import load_training_data
from poseline_training.folds import SCORES, decoding_of, figures, plan, run_fold
from poseline_training.results.tables import folds as table
from poseline_training.results.tables import tail

pytestmark = [pytest.mark.filterwarnings("ignore")]

GENEROUS = DecodingOptions(min_score=0.01, off_score=0.01, min_duration=0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folds(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("folds")
    for fold in plan(tiny(root), output, 2):
        run_fold(fold)
    return output


def test_people_are_dealt_by_number_and_styles_by_name(root: Path, tmp_path: Path) -> None:
    first, second = plan(tiny(root), tmp_path, 2)
    assert first.people == {"made_up": ("1", "3"), "other": ("3",)}
    assert second.people == {"made_up": ("2", "10"), "other": ("4",)}
    assert (first.styles, second.styles) == ({"manners": ("calm", "sad")}, {"manners": ("old",)})


def test_a_fold_trains_on_nobody_whom_it_is_judged_on(root: Path, tmp_path: Path) -> None:
    for fold in plan(tiny(root), tmp_path, 2):
        data = load_training_data(fold.settings.data)
        trained = {
            (one.name, s.person.split("/")[0]) for one in data.sets for s in one.sequences if one.name != "manners"
        }
        judged = {(r.corpus, r.subject) for foreign, r in fold.held_out(data.classes) if not foreign}
        assert judged
        assert trained
        assert not judged & trained
        styles = {r.style for foreign, r in fold.held_out(data.classes) if foreign}
        assert styles
        assert not styles & set(fold.settings.data.sets[2].styles or ())


def test_everybody_is_judged_once(root: Path, folds: Path) -> None:
    found = figures(plan(tiny(root), folds, 2), GENEROUS, draws=0)
    assert found["folds"] == [0, 1]
    assert list(found["look_aheads"]) == ["0", "4"]
    for one in found["look_aheads"].values():
        assert {name: figure["sequences"] for name, figure in one["sets"].items()} == {"made_up": 8, "other": 4}
        assert one["negatives"]["seconds"] == 3 * 2 * FRAMES / 30, "three manners, two clips each"
        assert set(one["means"]) == {"all", "real"}
        assert one["means"]["real"]["frame_map"] == one["sets"]["made_up"]["frame_map"]
    assert found["cpu_minutes"] is not None


def test_figures_are_shown_a_line_for_each_look_ahead_and_mean(root: Path, folds: Path) -> None:
    found = figures(plan(tiny(root), folds, 2), GENEROUS, draws=0)
    lines = table({"recipe": found, "nobody": None}, ("all", "real")).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "recipe",
        "recipe (real)",
        "recipe, 4 frames ahead",
        "recipe, 4 frames ahead (real)",
        "nobody",
    ]
    assert "| 2 of 2 |" in lines[2]
    assert len({line.count("|") for line in lines}) == 1


def test_rare_classes_are_shown_beside_frequent_ones(root: Path, folds: Path) -> None:
    """Three classes in a set: the most frequent one is the frequent half, the others are the rare one."""
    classes = {name: {"frame_ap": ap} for name, ap in (("a", 0.9), ("b", 0.2), ("c", 0.4))}
    figures = {"frame_accuracy": 0.7, "frame_map": 0.5, "frame_macro_f1": 0.6, "f1": {"50": 0.8}}
    one = {"sets": {"s": {**figures, "classes": classes}}, "means": {"all": figures}}
    recipe = {"look_aheads": {"0": one}, "class_shares": {"background": 0.4, "a": 0.4, "b": 0.1, "c": 0.1}}
    lines = tail({"recipe": recipe, "nobody": None}).splitlines()
    assert lines[2] == "| recipe | 0.700 | 0.500 | 0.600 | 0.900 | 0.300 | 0.800 |"
    assert len({line.count("|") for line in lines}) == 1


def test_a_recipes_shares_are_of_all_its_classes(root: Path, folds: Path) -> None:
    found = figures(plan(tiny(root), folds, 2), GENEROUS, draws=0)
    assert sum(found["class_shares"].values()) == pytest.approx(1, abs=1e-4)
    assert len(tail({"recipe": found}).splitlines()) == 3


def test_intervals_are_over_persons(root: Path, folds: Path) -> None:
    found = figures(plan(tiny(root), folds, 2), GENEROUS, draws=20)["look_aheads"]["0"]
    low, high = found["sets"]["made_up"]["intervals"]["frame_map"]
    assert low <= found["sets"]["made_up"]["frame_map"] <= high or high - low < 1
    assert low < high


def test_finished_folds_are_not_trained_again_and_decoding_changes_what_is_said(root: Path, folds: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folds.rglob("*")}
    planned = plan(tiny(root), folds, 2)
    for fold in planned:
        run_fold(fold)
    strict = figures(planned, decoding_of("min_score=1,off_score=1"), draws=0)["look_aheads"]["0"]
    lax = figures(planned, GENEROUS, draws=0)["look_aheads"]["0"]
    assert {path: path.stat().st_mtime_ns for path in folds.rglob("*")} == before
    assert strict["negatives"]["false_alarms_per_hour"] == 0 < lax["negatives"]["false_alarms_per_hour"]
    assert strict["sets"]["made_up"]["frame_map"] == lax["sets"]["made_up"]["frame_map"], "decoding is not scoring"


def test_kept_scores_are_small_and_whole(folds: Path) -> None:
    with np.load(folds / "0" / SCORES) as kept:
        assert {one.dtype for one in kept.values()} == {np.dtype(np.float16)}
        assert {key.rsplit("/", 1)[1]: one.shape for key, one in kept.items()} == {"0": (150, 5), "4": (154, 5)}


def test_other_settings_need_another_folder(root: Path, folds: Path) -> None:
    with pytest.raises(InputError, match="other settings"):
        run_fold(plan(tiny(root, steps=3), folds, 2)[0])


def test_teachers_who_saw_the_held_out_are_refused(root: Path, folds: Path, tmp_path: Path) -> None:
    pupil = tiny(root, teachers=(folds / "0",))
    with pytest.raises(InputError, match="have seen the people"):
        plan(pupil, tmp_path, 2)
    taught = plan(pupil, tmp_path, 2, [folds])
    assert [one.settings.teachers for one in taught] == [(folds / "0",), (folds / "1",)]
    run_fold(taught[1])
    cost = json.loads((tmp_path / "1" / "cost.json").read_text())
    assert (cost["steps"], cost["threads"], cost["workers"]) == (2, 1, 0)


def test_nothing_finished_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the folds"):
        figures(plan(tiny(root), tmp_path, 2), GENEROUS, draws=0)


@pytest.mark.parametrize("text", ["min_score", "min_score=2", "minimum=0.5", "min_score=0.2,off_score=0.3"])
def test_decoder_options_are_checked(text: str) -> None:
    with pytest.raises(InputError, match="decode"):
        decoding_of(text)
