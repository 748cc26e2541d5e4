"""The commands' insides on a tiny run: it resumes exactly, exports, and the bundle says what the network says."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from little_corpora import write_corpora
from poseline.actor import perform
from poseline.bundle import ModelBundle
from poseline.errors import BundleError, InputError
from poseline.online import localize
from poseline.stepping import check_golden
from poseline_training.config import (
    OWN,
    ActorSettings,
    DataSettings,
    ExportSettings,
    FinetuneSettings,
    NetworkSettings,
    PretrainSettings,
    own_data,
)
from poseline_training.export import export
from poseline_training.finetune import Finetuning, finetune, finetuned
from poseline_training.own import own_export
from poseline_training.pretrain import pretrain, pretrained_weights
from poseline_training.results.settings import ResultsSettings
from poseline_training.runtime import open_scorer
from poseline_training.weights import read_weights

pytestmark = [
    # Lightning and the ONNX exporter use functions that torch itself has deprecated.
    pytest.mark.filterwarnings("ignore"),
]

TEMPERATURE = 1.25
TINY = {
    "steps": 6,
    "batch": 2,
    "frames": 64,
    "checkpoint_every": 3,
    "workers": 0,
    "precision": "32-true",
    "accelerator": "cpu",
    "data": DataSettings(actor=ActorSettings(weight=1.0, streams=2, seconds=15)),
    "network": NetworkSettings(width=96),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    finetune(FinetuneSettings(**TINY), folder)
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return export(
        ExportSettings(
            name="tiny",
            run=run,
            output=tmp_path_factory.mktemp("bundles") / "tiny-1",
            license="Apache-2.0",
            research_only=False,
            description="for a test",
            license_text="Apache-2.0",
            temperature=TEMPERATURE,
            unknown_below=0.35,
        )
    )


def test_the_resolved_settings_are_saved(run: Path) -> None:
    assert FinetuneSettings.load(run / "config.yaml") == FinetuneSettings(**TINY)


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("stepz: 3\n")
    with pytest.raises(InputError, match=r"x\.yaml: stepz: Extra inputs"):
        FinetuneSettings.load(tmp_path / "x.yaml")


def test_a_base_is_read_first(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("steps: 3\nseed: 5\n")
    (tmp_path / "x.yaml").write_text("base: base.yaml\nsteps: 4\n")
    settings = FinetuneSettings.load(tmp_path / "x.yaml", seed=None, batch=9)
    assert (settings.steps, settings.seed, settings.batch) == (4, 5, 9)


def test_a_resumed_run_ends_where_an_unbroken_one_does(run: Path, tmp_path: Path) -> None:
    whole = FinetuneSettings(**TINY)

    honest = Finetuning.training_step

    def killed(self: Finetuning, batch: tuple[torch.Tensor, torch.Tensor], n: int) -> torch.Tensor:
        if self.global_step == 4:  # one step after the checkpoint
            raise ConnectionAbortedError("killed")
        return honest(self, batch, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "training_step", killed)
        with pytest.raises(ConnectionAbortedError):
            finetune(whole, tmp_path)
    first = finetuned(tmp_path)[0].state_dict()
    finetune(whole, tmp_path, resume=True)
    resumed, unbroken = finetuned(tmp_path)[0].state_dict(), finetuned(run)[0].state_dict()
    assert any(not torch.equal(first[k], resumed[k]) for k in first), "the second half did nothing"
    for name, value in unbroken.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("matching", ["time", "feature"])
def test_pretraining_gives_weights_that_finetuning_takes(matching: str, tmp_path: Path) -> None:
    pretrain(PretrainSettings(**TINY, matching=matching, queue=128), tmp_path / "pre")  # type: ignore[arg-type]
    weights = pretrained_weights(tmp_path / "pre")
    assert any(name.startswith("body.") for name in weights)
    assert not any(name.startswith(("classify", "border")) for name in weights)
    settings = FinetuneSettings(
        **TINY | {"steps": 1, "checkpoint_every": 1, "learning_rate": 1e-9}, init=tmp_path / "pre"
    )
    finetune(settings, tmp_path / "fine")
    tuned = finetuned(tmp_path / "fine")[0].state_dict()
    torch.testing.assert_close(
        tuned["body.conv0.linear.weight"], weights["body.conv0.linear.weight"], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("frozen", "moved"), [(1.0, False), (0.5, True)])
def test_a_bundles_trunk_is_trained_on_under_new_heads(
    bundle: ModelBundle, tmp_path: Path, frozen: float, moved: bool
) -> None:
    """Of a network of another width than the settings say, with other classes; while it is frozen it stands still."""
    data = DataSettings(actor=ActorSettings(weight=1.0, streams=2, seconds=15), classes=("background", "walk", "clap"))
    settings = FinetuneSettings.model_validate(
        TINY | {"data": data, "network": {"look_aheads": [0, 4]}, "trunk": bundle.path, "frozen": frozen, "steps": 4}
    )
    finetune(settings, tmp_path)
    network, classes = finetuned(tmp_path)
    old, new = read_weights(bundle)[0].state_dict(), network.state_dict()
    assert classes == ("background", "walk", "clap")
    assert (network.body.width, network.look_aheads) == (96, (0, 4))
    trunk = [name for name, _ in network.named_parameters() if name.startswith(("normalizer.", "body."))]
    assert len(trunk) > 20
    assert [torch.equal(old[name], new[name]) for name in trunk].count(False) == (len(trunk) if moved else 0)


def test_training_begins_at_one_place(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exclude each other"):
        finetune(FinetuneSettings(**TINY, trunk=bundle.path, init=tmp_path), tmp_path)


def test_a_corpus_of_ones_own_is_all_that_is_named(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    data = own_data(tmp_path / "made_up")
    assert (data.root, data.label_map) == (tmp_path, None)
    assert [(one.corpus, one.files) for one in data.sets] == [("made_up", ("untrimmed_train",))]
    with pytest.raises(InputError, match=r"no \*_train\.npz"):
        own_data(tmp_path)
    assert FinetuneSettings.load(OWN, data=data).data == data


def test_the_bundle_is_the_network_over_the_full_sequence(run: Path, bundle: ModelBundle) -> None:
    network, _ = finetuned(run)
    golden = bundle.golden()
    scores, boundaries, _ = open_scorer(bundle).replay(golden.poses)
    with torch.no_grad():
        logits, borders = network(torch.from_numpy(golden.poses))
    assert np.abs(scores - (logits / TEMPERATURE).softmax(-1).numpy()).max() < 1e-5
    assert np.abs(boundaries - borders.sigmoid().numpy()).max() < 1e-5


def test_a_bundle_holds_the_network_that_it_runs(bundle: ModelBundle) -> None:
    """Step graphs have folded it away; its weights lie beside them, head, temperature and all."""
    network, settings = read_weights(bundle)
    golden = bundle.golden()
    with torch.no_grad():
        logits, borders = network(torch.from_numpy(golden.poses))
    assert np.abs(golden.scores - logits.softmax(-1).numpy()).max() < 1e-6
    assert np.abs(golden.boundaries - borders.sigmoid().numpy()).max() < 1e-6
    assert settings == NetworkSettings(width=96)


def test_a_bundle_without_weights_says_so(bundle: ModelBundle, tmp_path: Path) -> None:
    without = {name: digest for name, digest in bundle.manifest.files.items() if name != "weights.npz"}
    old = replace(bundle, manifest=bundle.manifest.model_copy(update={"files": without}))
    with pytest.raises(BundleError, match=r"has no weights\.npz"):
        read_weights(old)
    damaged = replace(bundle, path=tmp_path)
    shutil.copytree(bundle.path, tmp_path, dirs_exist_ok=True)
    np.savez(tmp_path / "weights.npz", settings=np.array("{}"))
    with pytest.raises(BundleError, match="does not hold the bundle's network"):
        read_weights(damaged)


def test_golden_samples_catch_another_network(bundle: ModelBundle) -> None:
    scorer = open_scorer(bundle)
    honest = scorer._run

    def wrong(level: str, feeds: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
        out = list(honest(level, feeds))
        out[-1] = out[-1] * 1.01
        return out

    scorer._run = wrong
    with pytest.raises(BundleError, match="golden samples differ"):
        check_golden(bundle, scorer)


def test_the_card_says_what_must_be_said(bundle: ModelBundle) -> None:
    card = (bundle.path / "README.md").read_text()
    assert "Not a medical device" in card
    assert "Apache-2.0" in card
    assert "calibrated on people held out (temperature 1.25)" in card
    assert 'less than 0.35, the answer is "unknown"' in card


def test_a_bundle_runs_in_process(bundle: ModelBundle) -> None:
    events = localize(bundle.manifest, open_scorer(bundle), perform(3, seconds=10).poses)
    assert all(event.label in bundle.manifest.classes[1:] for event in events)


def test_experiment_files_are_valid() -> None:
    folder = Path(__file__).parents[2] / "training" / "configs"
    kinds = {"pretrain": PretrainSettings, "export": ExportSettings, "results": ResultsSettings}
    for path in folder.glob("*.yaml"):
        assert yaml.safe_load(path.read_text())
        kinds.get(path.stem.split("-")[0], FinetuneSettings).load(path)


def test_a_pupil_learns_beside_its_teacher_who_stays_what_it_is(run: Path, tmp_path: Path) -> None:
    """Teachers are neither trained nor kept in the pupil's checkpoint; what they say changes what is learnt."""
    before = finetuned(run)[0].state_dict()
    settings = FinetuneSettings(**TINY | {"network": NetworkSettings(width=96, look_aheads=(0, 4))})
    finetune(settings, tmp_path / "alone")
    finetune(settings.model_copy(update={"teachers": (run,), "teaching": 0.5}), tmp_path / "taught")
    after = finetuned(run)[0].state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    alone, taught = (finetuned(tmp_path / name)[0] for name in ("alone", "taught"))
    assert taught.look_aheads == (0, 4)
    assert set(alone.state_dict()) == set(taught.state_dict())
    assert not torch.equal(alone.classify.weight, taught.classify.weight)
    saved = torch.load(tmp_path / "taught" / "last.ckpt", weights_only=False)["state_dict"]
    assert not any("teacher" in name for name in saved)


def test_a_teacher_of_other_classes_is_refused(run: Path, tmp_path: Path) -> None:
    data = DataSettings(actor=ActorSettings(weight=1.0, streams=2, seconds=15), classes=("background", "walk"))
    with pytest.raises(InputError, match="has other classes than its pupil"):
        finetune(FinetuneSettings(**TINY | {"data": data}, teachers=(run,)), tmp_path)


@pytest.fixture(scope="module")
def own_run(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own classes on the tiny bundle's trunk."""
    root = write_corpora(tmp_path_factory.mktemp("corpora"))
    shutil.copy(root / "made_up" / "untrimmed_test.npz", root / "made_up" / "untrimmed_val.npz")
    folder = tmp_path_factory.mktemp("runs") / "mine"
    finetune(FinetuneSettings.model_validate(TINY | {"data": own_data(root / "made_up"), "trunk": bundle.path}), folder)
    return folder


def test_a_run_tells_all_that_its_export_needs(own_run: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    settings = own_export(own_run, "mine", "2", tmp_path / "models" / "mine-2", None)
    (tmp_path / "models").mkdir()
    made = export(settings)
    manifest = made.manifest
    assert (manifest.name, manifest.version, manifest.license) == ("mine", "2", "Apache-2.0")
    assert manifest.classes == ("background", "wave", "punch")
    assert manifest.metrics["sets"]["made_up"]["split"] == "untrimmed_test"
    assert manifest.metrics["thresholds"]["wave"]["instances"] == 4
    card = (made.path / "README.md").read_text()
    assert "| punch | 8 | 4 | 4 |" in card
    assert "| people | 4 | 2 | 2 |" in card
    assert f"Training began at the trunk of tiny, version 1 (`{bundle.digest}`, Apache-2.0)" in card
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="is there already and is no bundle"):
        export(settings.model_copy(update={"output": tmp_path / "photos"}))


def test_who_stands_on_research_is_research(own_run: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "strict")
    manifest = bundle.manifest.model_copy(update={"license": "LicenseRef-research", "research_only": True})
    (tmp_path / "strict" / "manifest.json").write_text(manifest.model_dump_json())
    run = tmp_path / "run"
    shutil.copytree(own_run, run)
    FinetuneSettings.load(own_run / "config.yaml", trunk=tmp_path / "strict").save(run / "config.yaml")
    settings = own_export(run, "mine", "1", tmp_path / "mine", None)
    assert (settings.license, settings.research_only) == ("LicenseRef-research", True)
    with pytest.raises(InputError, match="for research alone"):
        own_export(run, "mine", "1", tmp_path / "mine", "MIT")
    FinetuneSettings.load(own_run / "config.yaml").model_copy(update={"trunk": None}).save(run / "config.yaml")
    assert own_export(run, "mine", "1", tmp_path / "mine", "MIT").license == "MIT"
    with pytest.raises(InputError, match="say --license"):
        own_export(run, "mine", "1", tmp_path / "mine", None)
    with pytest.raises(InputError, match="is no run"):
        own_export(tmp_path, "mine", "1", tmp_path / "mine", None)
