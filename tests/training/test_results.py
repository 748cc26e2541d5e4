"""Rows: made of a run, kept, shown, and made again; what a run cost and what a network costs."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml

from little_corpora import tiny, write_corpora
from poseline.decoding import DecodingOptions
from poseline.errors import InputError
from poseline.skeleton import BODY16
from poseline_training.finetune import Finetuning, finetune
from poseline_training.network.localizer import Localizer
from poseline_training.results.counting import counting
from poseline_training.results.figures import mean_of, rounded
from poseline_training.results.measure import cpu_minutes, measure
from poseline_training.results.networks import multiply_adds, parameters
from poseline_training.results.pages import write_page
from poseline_training.results.reproduce import train
from poseline_training.results.rows import Rows, write_row
from poseline_training.results.settings import AimSettings, ResultsSettings, experiment
from poseline_training.results.tables import MISSING, aims, beside, negatives, of_figures, robustness, won_back

pytestmark = [pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "gru-s0"
    finetune(tiny(root), folder)
    return folder


@pytest.fixture(scope="module")
def settings(root: Path) -> ResultsSettings:
    return ResultsSettings.model_validate(
        {
            "words": "Nobody should believe these.",
            "data": {"root": root, "label_map": None},
            "sets": [
                {"corpus": "made_up", "split": "untrimmed_test", "real": True},
                {"corpus": "other", "split": "stitched_test"},
            ],
            "trimmed": [{"corpus": "made_up", "split": "untrimmed_test"}],
            "negatives": [{"corpus": "manners", "files": ["trimmed_train"]}],
            "draws": 10,
            "rows": {
                "late": {"run": "gru-s0", "look_ahead": 4},
                "narrow": {"sets": ["other"]},
                "cold": {"temperature": 0.01},
            },
            "groups": [
                {
                    "title": "The Headline",
                    "of": ["real", "made_up"],
                    "rows": ["gru", "rare"],
                    "costs": True,
                    "plot": "points",
                },
                {"title": "Ahead", "rows": ["gru", "late"], "plot": "look_ahead"},
                {"title": "Points", "table": "operating", "rows": ["gru"]},
                {"title": "Size", "table": "sets", "rows": ["gru"]},
                {"title": "All of them", "table": "protocols", "rows": ["gru"]},
                {"title": "Starting", "table": "starts", "rows": ["gru"]},
                {"title": "Wanted", "table": "aims", "rows": ["gru"]},
                {"title": "Won", "table": "won_back", "rows": ["gru", "late", "gru"]},
                {"title": "Soon", "table": "early", "rows": ["gru"]},
                {"title": "Clips", "table": "trimmed", "of": ["made_up"], "rows": ["gru"]},
                {"title": "Rare", "table": "tail", "rows": ["nobody"]},
                {"title": "Calibrated", "table": "calibration", "rows": ["gru"], "plot": "reliability"},
                {"title": "Quiet", "table": "negatives", "of": ["manners"], "rows": ["gru"]},
                {"title": "Own", "table": "native", "of": ["made_up"], "rows": ["gru"]},
                {"title": "Anew", "table": "recomposed", "of": ["other"], "rows": ["gru"]},
                {"title": "Left", "table": "left_out", "rows": ["gru", "narrow"]},
                {"title": "Folded", "table": "folds", "rows": ["nobody"]},
                {"title": "Bent", "table": "robustness"},
                {"title": "Given", "table": "giveaways"},
            ],
        }
    )


@pytest.fixture(scope="module")
def row(settings: ResultsSettings, run: Path) -> dict[str, Any]:
    return measure(settings, "gru-s0", run)


# --- what it cost -----------------------------------------------------------------------------------------------------


def test_a_run_writes_what_it_cost(run: Path) -> None:
    cost = json.loads((run / "cost.json").read_text())
    assert cost["steps"] == 2
    assert cost["cpu_seconds"] > 0 < cost["wall_seconds"]
    assert cpu_minutes(run, 2) == pytest.approx(cost["cpu_seconds"] / 60, abs=0.06)
    assert cpu_minutes(run, 200) == pytest.approx(cost["cpu_seconds"] / 60 * 100, abs=0.06)
    assert cpu_minutes(run.parent, 2) is None


def test_what_was_paid_for_adds_up_over_resumes(root: Path, tmp_path: Path) -> None:
    honest = Finetuning.training_step

    def broken(self: Finetuning, batch: Any, n: int) -> Any:
        if self.global_step == 1:
            raise ConnectionAbortedError("the power is gone")
        return honest(self, batch, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "training_step", broken)
        with pytest.raises(ConnectionAbortedError):
            finetune(tiny(root), tmp_path)
    first = json.loads((tmp_path / "cost.json").read_text())
    finetune(tiny(root), tmp_path, resume=True)
    both = json.loads((tmp_path / "cost.json").read_text())
    assert (first["steps"], both["steps"]) == (1, 2)
    assert both["cpu_seconds"] > first["cpu_seconds"]
    finetune(tiny(root), tmp_path)
    assert json.loads((tmp_path / "cost.json").read_text())["steps"] == 2, "a run from nothing owes nothing"


def test_those_who_make_batches_are_paid(root: Path, tmp_path: Path) -> None:
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    finetune(tiny(root, workers=1, steps=4), tmp_path)
    theirs = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["workers"] == 1
    assert cost["cpu_seconds"] > theirs - 0.01 > 0


def test_multiply_adds_are_of_the_matrices() -> None:
    network = Localizer(BODY16, 5, "gru", 32).eval()
    gru = network.normalizer.size * 32 + 3 * 2 * 32 * 32
    at_least = 32 * (5 + 2)
    found = multiply_adds(network)
    assert at_least < found < 2 * gru + 32 * network.normalizer.size
    wider = Localizer(BODY16, 15, "gru", 32).eval()
    assert multiply_adds(wider) - found == 10 * 32, "ten classes more"
    assert parameters(wider) - parameters(network) == 10 * 33


def test_a_joint_graph_is_counted_along_its_bones() -> None:
    """The stem's two layers alone, multiplied out, would be more than the whole is."""
    assert 300_000 < multiply_adds(Localizer(BODY16, 40).eval()) < 360_000


# --- a row ------------------------------------------------------------------------------------------------------------


def test_a_row_says_what_it_is_of_and_on_what(row: dict[str, Any]) -> None:
    assert (row["name"], row["run"], row["body"], row["seed"], row["steps"]) == ("gru-s0", "gru-s0", "gru", 0, 2)
    assert row["look_ahead"] == 0
    assert set(row["sets"]) == {"made_up", "other"}
    assert row["sets"]["made_up"]["split"] == "untrimmed_test"
    both = [row["sets"][name]["frame_map"] for name in ("made_up", "other")]
    assert row["means"]["all"]["frame_map"] == pytest.approx(sum(both) / 2, abs=1e-4)
    assert row["means"]["real"]["frame_map"] == both[0]
    low, high = row["sets"]["made_up"]["intervals"]["frame_map"]
    assert low <= both[0] <= high
    json.dumps(row, allow_nan=False)


def test_negatives_are_of_manners_that_it_was_not_trained_on(row: dict[str, Any]) -> None:
    found = row["negatives"]["manners"]
    assert found["styles"] == ["wild"]
    assert found["sequences"] == 2
    assert sum(one["seconds"] for one in found["contents"].values()) == pytest.approx(found["seconds"])
    assert all(one["seen"] for one in found["contents"].values()), "the same was background in another manner"


def test_a_run_that_knows_every_manner_has_no_negatives(root: Path, settings: ResultsSettings, tmp_path: Path) -> None:
    plain = tiny(root)
    sets = tuple(one.model_copy(update={"styles": None}) for one in plain.data.sets)
    finetune(plain.model_copy(update={"data": plain.data.model_copy(update={"sets": sets})}), tmp_path)
    assert measure(settings, "narrow", tmp_path)["negatives"] == {"manners": None}


def test_a_row_may_have_another_head_and_fewer_sets(settings: ResultsSettings, run: Path) -> None:
    assert measure(settings, "late", run)["look_ahead"] == 4
    assert set(measure(settings, "narrow", run)["sets"]) == {"other"}
    with pytest.raises(InputError, match="trained for look-ahead 0, 4, not 3"):
        measure(settings, "gru-s0", run, look_ahead=3)
    with pytest.raises(InputError, match="nothing to measure"):
        measure(settings, "gru-s0")


def test_a_row_may_be_tempered_and_decoded_otherwise(settings: ResultsSettings, row: dict[str, Any], run: Path) -> None:
    deaf = settings.model_copy(update={"decoding": DecodingOptions(min_score=1, off_score=1)})
    cold = measure(deaf, "cold", run)
    assert cold["decoding"]["min_score"] == 1
    assert cold["means"]["all"]["missed"] == 1
    for corpus, figures in cold["sets"].items():
        assert figures["frame_accuracy"] == row["sets"][corpus]["frame_accuracy"], (
            "neither changes a ranking of classes"
        )
        assert figures["ece"] > row["sets"][corpus]["ece"], "a network of two steps knows little, and this one boasts"


def test_means_are_of_what_all_could_measure() -> None:
    a, b = {"x": 1.0, "y": None, "z": {"q": 2}, "classes": {}}, {"x": 2.0, "y": 3.0, "z": {"q": 4}, "classes": {}}
    assert mean_of([a, b]) == {"x": 1.5, "y": None, "z": {"q": 3.0}}
    assert rounded({"a": [float("nan"), 0.123456]}) == {"a": [None, 0.1235]}


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_rows_and_says_what_is_missing(
    settings: ResultsSettings, run: Path, row: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "results" / "rows"
    write_row(row, folder / "gru-s0.json")
    write_row({**row, "name": "gru-s1", "seed": 1}, folder / "gru-s1.json")
    write_row(measure(settings, "late", run), folder / "late.json")
    write_page(settings, folder, tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text()
    assert page.startswith("# Results\n")
    assert settings.words in page
    value = f"{row['means']['real']['frame_map']:.3f}"
    assert f"| **gru**, mean of 2 seeds | 0, 1 | 2 | {row['cpu_minutes']:.1f} | {value} |" in page
    assert f"| gru-s1 | 1 | 2 | {row['cpu_minutes']:.1f} | {value} (" in page
    assert f"| rare | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | {MISSING} |" in page
    assert "| narrow | \N{EN DASH} |" in page
    assert "made_up: wave | wave | 4 |" in page
    assert f"| gru | gru | {row['parameters']:,} | {row['multiply_adds']:,} |" in page
    for picture in ("the-headline", "ahead", "calibrated"):
        assert f"](results/{picture}.png)" in page
        assert (tmp_path / "results" / f"{picture}.png").stat().st_size > 1000
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_every_line_of_a_table_has_its_cells(settings: ResultsSettings, row: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "results" / "rows"
    write_row(row, folder / "gru-s0.json")
    write_row({**row, "name": "narrow"}, folder / "narrow.json")
    write_page(settings, folder, tmp_path / "results.md")
    blocks = (tmp_path / "results.md").read_text().split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) > len(settings.groups) - 3
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1, lines[0]


def test_robustness_is_shown_by_condition_and_severity() -> None:
    figures = {"frame_map": 0.5, "segment_map_0.5": 0.25, "f1_50": 0.125}
    shown = robustness({"jitter": {"0": {"other": {}, "mean": figures}, "1": {"other": {}, "mean": figures}}})
    assert shown.splitlines()[2:] == [
        "| jitter | 0 | 0.500 | 0.250 | 0.125 |",
        "| jitter | 1 | 0.500 | 0.250 | 0.125 |",
    ]


def test_the_experiments_of_the_committed_page_exist() -> None:
    configs = Path(__file__).parents[2] / "training" / "configs"
    settings = ResultsSettings.load(configs / "results.yaml")
    for name in settings.rows:
        path, _ = experiment(settings.run_of(name), configs)
        assert path.exists()


# --- made again -------------------------------------------------------------------------------------------------------


def test_a_row_is_made_again_with_all_that_it_needs(root: Path, settings: ResultsSettings, tmp_path: Path) -> None:
    configs, runs = tmp_path / "configs", tmp_path / "runs"
    configs.mkdir()
    plain = tiny(root).model_dump(mode="json")
    (configs / "teacher.yaml").write_text(yaml.safe_dump(plain))
    (configs / "pupil.yaml").write_text(yaml.safe_dump(plain | {"teachers": [str(runs / "teacher-s3")]}))
    folder = train("pupil", configs, runs)
    assert folder == runs / "pupil"
    assert yaml.safe_load((runs / "teacher-s3" / "config.yaml").read_text())["seed"] == 3
    made = (folder / "last.ckpt").stat().st_mtime_ns
    train("pupil", configs, runs)
    assert (folder / "last.ckpt").stat().st_mtime_ns == made, "what is finished is not trained again"
    row = measure(settings, "pupil", folder)
    assert row["teachers"] == ["teacher-s3"]
    write_row(row, tmp_path / "rows" / "pupil.json")
    shown = beside(row, Rows(tmp_path / "rows").get("pupil"))
    assert "| all: made again | 0 | 2 |" in shown
    assert "| all: kept | 0 | 2 |" in shown
    (configs / "pupil.yaml").write_text(yaml.safe_dump(plain | {"steps": 3}))
    with pytest.raises(InputError, match="other settings"):
        train("pupil", configs, runs)
    with pytest.raises(InputError, match="no experiment is called"):
        train("nobody-s1", configs, runs)


def test_negatives_are_told_by_whether_their_content_was_seen(tmp_path: Path) -> None:
    """Two finals in 20 minutes of what training had as background in other manners, 3 in a minute of what it never had."""
    contents = {
        "hand": {"seconds": 1200, "finals": 2, "seen": True},
        "dance": {"seconds": 60, "finals": 3, "seen": False},
    }
    found = {"said": {"kick": 4, "bend": 1}, "contents": contents}
    write_row(
        {"name": "x", "seed": 0, "steps": 2, "cpu_minutes": 1.0, "negatives": {"m": found, "n": None}},
        tmp_path / "x.json",
    )
    (line,) = negatives(Rows(tmp_path), ["x"], ["m", "n"]).splitlines()[2:]
    assert line == "| m: x | 0 | 2 | 1.0 | 20.0 | 2 | 6.0 | 1.0 | 3 | 180.0 | kick 4, bend 1 |"


def test_aims_and_what_look_ahead_wins_back(tmp_path: Path) -> None:
    def row(name: str, body: str, frame_map: float, segment_map: float) -> None:
        figures = {
            "frame_map": frame_map,
            "segment_map": {"0.5": segment_map},
            "f1": {"50": 0.5},
            "start_delay_mean": 0.2,
        }
        head = {"name": name, "seed": 0, "steps": 2, "cpu_minutes": 1.0, "body": body, "sets": {}}
        write_row({**head, "means": {"all": figures}}, tmp_path / f"{name}.json")

    row("causal", "gru", 0.6, 0.5)
    row("ahead", "gru", 0.7, 0.45)
    row("twin", "centred_u", 0.8, 0.7)
    rows = Rows(tmp_path)
    (line,) = won_back(rows, ["causal", "ahead", "twin"], ["all"]).splitlines()[2:]
    assert line == "| ahead: mean of all sets | 50% | -25% | no gap |"
    wanted = [
        AimSettings(title="frame mAP", of="all", path=("frame_map",), least=0.6),
        AimSettings(title="start delay", of="all", path=("start_delay_mean",), most=0.1),
    ]
    first, second = aims(rows, ["causal"], wanted).splitlines()[2:]
    assert first == "| frame mAP (all) | at least 0.60 | 0.600 | 0.600 | yes |"
    assert second == "| start delay (all) | at most 0.10 | 0.200 | 0.200 | **no** |"
    *_, told = of_figures(rows, ["twin"], ["all"]).splitlines()
    assert told.endswith("| 0.800 | 0.700 | 0.500 | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} |"), (
        "it starts nothing in time"
    )


def test_counting_tells_who_how_far_off_and_what_real_segments_count_as() -> None:
    figures = {"streams": 9, "mean_error": 0.05, "by_times": {"2 to 3": 0.1}, "within_one": 1.0, "largest_error": 2,
               "single_wrong": 0.0}  # fmt: skip
    page = counting(
        {
            "composed": {"test": {"shipped": figures}},
            "video": {"file": "raise.mp4", "true": 4, "counted": {"shipped": 3}},
            "real": {"utkinect: waveHands": {"seconds": 3.14, "counts": {"10": 1, "2": 5}}},
        }
    )
    assert "**People of the test**, 9 streams" in page
    assert "| shipped | 0.050 | 0.100 | 1.000 | 2 | 0.000 |" in page
    assert "**`raise.mp4`**: 4 raises" in page
    assert "| utkinect: waveHands | 6 | 3.1 | 2: 5, 10: 1 |" in page
