"""Experiments as typed, frozen settings. A YAML file names what differs from these defaults; unknown keys are refused;
the resolved whole is saved with every run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poseline.decoding import DecodingOptions
from poseline.errors import InputError
from poseline_training.network.localizer import Body


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def load(cls, path: Path, **changes: object) -> Self:
        """Read a YAML file, on top of the one that its `base` names; `changes` that are not None win over both.

        Raises InputError.
        """
        try:
            return cls.model_validate(_read(path) | {k: v for k, v in changes.items() if v is not None})
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise InputError(f"{path}: {wrong}") from None

    def save(self, path: Path) -> None:
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    base = values.pop("base", None)
    return (_read(path.parent / base) if base else {}) | values


class SetSettings(Settings):
    """One corpus to train on.

    files: of the corpus' folder, without .npz. weight: share of the crops that come from it. restitch: share of those that
    are joined anew from pieces. min_seconds: shorter sequences are left out. without: people who are left out. styles: only
    these, where the corpus names styles.

    classes: `own`: the set's classes are the model's. `shared`: it teaches only what other sets have; sequences of nothing
    else are left out. `foreign`: only sequences of classes that no other set has; they are background.
    """

    corpus: str
    files: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(gt=0)
    restitch: float = Field(default=0.0, ge=0, le=1)
    min_seconds: float = 0.0
    without: tuple[str, ...] = ()
    styles: tuple[str, ...] | None = None
    classes: Literal["own", "shared", "foreign"] = "own"


class ActorSettings(Settings):
    """Scripted streams, made on the spot: `streams` performances of `seconds` each."""

    weight: float = Field(gt=0)
    streams: int = Field(default=40, ge=1)
    seconds: float = 60.0
    seed: int = 1000


class DataSettings(Settings):
    """Where motion comes from. root: folder of corpora. label_map: corpus → class → common label.

    classes: None = every class of the sets, in order, then the actor's.
    """

    root: Path = Path("../shared/data")
    label_map: Path | None = Path("../shared/data/unified_labels.json")
    sets: tuple[SetSettings, ...] = ()
    actor: ActorSettings | None = None
    classes: tuple[str, ...] | None = None


class AugmentSettings(Settings):
    """How far a clip may be bent. Angles in degrees, lengths in metres, probabilities per clip."""

    tempo: tuple[float, float] = (0.75, 1.35)
    yaw: float = 45.0
    any_yaw: float = 0.3  # share of clips turned by anything: cameras stand everywhere
    tilt: float = 4.6  # standard deviation; cameras are pitched
    scale: float = 0.15
    stretch: float = 0.04  # standard deviation per axis
    bones: float = 0.06  # standard deviation of bone lengths
    noise: float = 0.012  # largest standard deviation of joint noise
    freeze: float = 0.25  # a few joints stand still for a while, at full confidence
    missing: float = 0.25  # a few joints are not seen for a while
    doubt: float = 0.25  # confidences below 1
    hip_centred: float = 0.1  # no root motion, whatever else
    extractor: float = 0.25  # as a 3D pose extractor gives them, MediaPipe's errors times up to 2
    flat: float = 0.2  # a picture: no depth
    slow_source: float = 0.25  # 10 to 20 frames a second, interpolated


class NetworkSettings(Settings):
    """look_aheads: frames by which heads speak later than they see; the first is the default's."""

    body: Body = "strided_u"
    width: int = 128
    dropout: float = 0.25
    look_aheads: tuple[int, ...] = (0,)


class RunSettings(Settings):
    """What pretraining and finetuning share. A step is one batch of `batch` crops of `frames` frames."""

    seed: int = 0
    steps: int = Field(default=4500, ge=1)
    batch: int = 16
    frames: int = 256
    learning_rate: float = 2e-3
    warmup: float = 0.04
    checkpoint_every: int = 250
    threads: int = 1  # operators are small: a second thread costs more than it gives
    workers: int = Field(default=1, ge=0)  # processes that make crops
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()


class FinetuneSettings(RunSettings):
    """Localization from labels.

    class_weight: classes weigh frequency^-class_weight in the loss. prior: their logits are shifted by prior times the log
    of their frequency while training (Menon et al., ICLR 2021), which favours the rare where it is 1. border_weight: of the
    boundary loss. balance: recordings and pieces are drawn by the rarity of their frames' classes, frequency^-balance.
    contrast: weight of supervised contrast of the frames' vectors (`objective.supervised_contrast`), at that temperature.
    average: decay of the weights' running mean, which is what is kept. init: a pretraining run.

    trunk: a bundle whose normalizer and body are trained on, under new heads; the network is of its shape then.
    trunk_rate: its share of the learning rate. frozen: share of the steps during which it stands still.

    teachers: finished runs, whose mean answer is taught beside the labels (Hinton et al., 2015); teaching: its share of the
    loss.
    """

    weight_decay: float = 0.02
    class_weight: float = 0.15
    prior: float = 0.0
    balance: float = Field(default=0.0, ge=0)
    label_smoothing: float = 0.05
    border_weight: float = 0.5
    contrast: float = Field(default=0.0, ge=0)
    contrast_temperature: float = Field(default=0.1, gt=0)
    average: float = 0.995
    context: int = 24  # first frames of a crop that began elsewhere: no loss, they lack their past
    init: Path | None = None
    trunk: Path | None = None
    trunk_rate: float = Field(default=1.0, ge=0, le=1)
    frozen: float = Field(default=0.0, ge=0, le=1)
    teachers: tuple[Path, ...] = ()
    teaching: float = Field(default=0.5, ge=0, le=1)


OWN = Path(__file__).with_name("own.yaml")
"""The experiment for a handful of one's own recordings."""


def own_data(corpus: Path) -> DataSettings:
    """One corpus of one's own, under its own names: every file of its that ends with `_train`. Raises InputError."""
    files = tuple(sorted(path.stem for path in corpus.glob("*_train.npz")))
    if not files:
        raise InputError(f"{corpus} holds no *_train.npz: it is no corpus, or nobody of it is to be trained on")
    corpus = corpus.resolve()
    own = SetSettings(corpus=corpus.name, files=files, weight=1.0, restitch=0.5)
    return DataSettings(root=corpus.parent, label_map=None, sets=(own,))


class PretrainSettings(RunSettings):
    """Snippet contrast without labels (docs/adr/0003). A snippet is `snippet` frames.

    matching: which key snippet is the positive. queue: snippets of other clips kept as negatives (a true FIFO).
    """

    steps: int = Field(default=2000, ge=1)
    weight_decay: float = 1e-4
    snippet: int = 8
    matching: Literal["time", "feature"] = "time"
    queue: int = 4096
    temperature: float = 0.1
    momentum: float = 0.99
    dense_weight: float = 1.5


class EvaluationSet(Settings):
    corpus: str
    split: str


DEVELOPED = (
    "These recordings of people unseen in training were read while architectures and earlier versions were compared: "
    "development data, not a blind test. The headline is the real untrimmed recordings; in stitched streams (`stitched_…`) "
    "the actions are real, but their order, borders and background are made up. One training: docs/results.md has another "
    "seed of it, and how far the two differ."
)
"""Of figures on the sets with which Poseline itself was developed."""


class ExportSettings(Settings):
    """A bundle from a finetuning run, with its model card.

    pictures: the model takes poses without depth, in pixels or normalized, beside metric ones.
    look_ahead: the head that is exported, one of those that the run has trained.
    twin: a finished run with body `centred_u` and the same classes, which becomes the bundle's network for mode `offline`.
    temperature, twin_temperature: what the classes' logits are divided by, as fitted on people held out
    (`temperature.fit_temperature`). decoding, unknown_below: as in the manifest.
    choose: validation sets on which each class' thresholds are chosen (`thresholds`). caveat: of the figures.
    robustness: sets that are bent in every way the model claims to bear.
    """

    name: str
    version: str = "1"
    run: Path
    output: Path
    description: str
    license: str
    research_only: bool
    pictures: bool = False
    look_ahead: int = Field(default=0, ge=0)
    twin: Path | None = None
    temperature: float = Field(default=1.0, gt=0)
    twin_temperature: float = Field(default=1.0, gt=0)
    decoding: DecodingOptions = DecodingOptions()
    unknown_below: float = Field(default=0.0, ge=0, le=1)
    license_text: str
    data_notes: str = ""
    limits: str = ""
    caveat: str = DEVELOPED
    data: DataSettings = DataSettings()
    choose: tuple[EvaluationSet, ...] = ()
    evaluate: tuple[EvaluationSet, ...] = ()
    robustness: tuple[EvaluationSet, ...] = ()
