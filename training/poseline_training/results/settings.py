"""What training/configs/results.yaml says: on what rows are measured, and how the page shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from poseline.decoding import DecodingOptions
from poseline.errors import InputError
from poseline_training.config import DataSettings, EvaluationSet, Settings

_SEEDED = re.compile(r"(.+)-s(\d+)")

Table = Literal[
    "figures",
    "sets",
    "aims",
    "won_back",
    "protocols",
    "starts",
    "operating",
    "early",
    "trimmed",
    "tail",
    "calibration",
    "negatives",
    "native",
    "recomposed",
    "left_out",
    "folds",
    "robustness",
    "giveaways",
    "alarms",
    "counting",
    "enrolment",
]


class MeasuredSet(EvaluationSet):
    """real: recorded as it happened, neither trimmed nor stitched: the headline is the mean of these."""

    real: bool = False


class RecomposedSet(EvaluationSet):
    """A stitched set whose clips are put into other streams with other bridges; split: train, val or test."""

    seed: int = 1


class NegativeSettings(Settings):
    """Recordings of which those count that hold no class of the model: of a set that it was not trained on at all, or, where
    the set names manners, in those that it was not trained on."""

    corpus: str
    files: tuple[str, ...] = Field(min_length=1)


class RowSettings(Settings):
    """run: name of the training run, the row's own if it is not said. sets: corpora to measure, None = all. Labels that the
    model lacks never count, so a set that was left out of training is measured on the classes that others taught.
    temperature: of the run's head, as it is exported."""

    run: str | None = None
    look_ahead: int = Field(default=0, ge=0)
    sets: tuple[str, ...] | None = None
    temperature: float = Field(default=1.0, gt=0)


class AimSettings(Settings):
    """of: `real`, `all` or a corpus. path: where the figure stands among a set's figures. least, most: what was wanted."""

    title: str
    of: str
    path: tuple[str, ...]
    least: float | None = None
    most: float | None = None


class GroupSettings(Settings):
    """A section of the page. of: `real`, `all` (means over sets) or corpora, a table each. rows: names; NAME stands for
    every NAME-s0, NAME-s1 … too. In `left_out` the first one is what the others are compared with; `won_back` takes a causal
    row, rows with look-ahead, and one that sees everything; in `folds` and `tail` they are names of
    docs/results/folds/NAME.json. costs: add what each network is. plot: a picture of them below."""

    title: str
    words: str = ""
    table: Table = "figures"
    of: tuple[str, ...] = ("all",)
    rows: tuple[str, ...] = ()
    costs: bool = False
    plot: Literal["points", "look_ahead", "reliability", "robustness", "alarms"] | None = None


class ResultsSettings(Settings):
    """words: what stands above everything else. decoding: of runs; a bundle has its own. draws: persons drawn for an
    interval."""

    words: str
    data: DataSettings = DataSettings()
    sets: tuple[MeasuredSet, ...]
    recomposed: tuple[RecomposedSet, ...] = ()
    trimmed: tuple[EvaluationSet, ...] = ()
    negatives: tuple[NegativeSettings, ...] = ()
    decoding: DecodingOptions = DecodingOptions()
    draws: int = Field(default=1000, ge=0)
    rows: dict[str, RowSettings] = Field(default_factory=dict)
    aims: tuple[AimSettings, ...] = ()
    groups: tuple[GroupSettings, ...] = ()

    def row(self, name: str) -> RowSettings:
        return self.rows.get(name, RowSettings())

    def run_of(self, name: str) -> str:
        return self.row(name).run or name


def experiment(name: str, configs: Path) -> tuple[Path, int | None]:
    """The YAML file and the seed of a run by its name: NAME.yaml, or NAME.yaml with another seed for NAME-s1.

    Raises InputError.
    """
    plain = configs / f"{name}.yaml"
    if plain.exists():
        return plain, None
    seeded = _SEEDED.fullmatch(name)
    if seeded and (path := configs / f"{seeded[1]}.yaml").exists():
        return path, int(seeded[2])
    raise InputError(f"no experiment is called {name}: {plain} does not exist")
