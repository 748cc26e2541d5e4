"""The workshop's commands: pretrain, finetune, evaluate, export."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from poseline.bundle import ModelBundle
from poseline_training.config import ExportSettings, FinetuneSettings, PretrainSettings

Config = Annotated[Path, typer.Option(help="Experiment YAML: what differs from the defaults.", exists=True)]
Output = Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name of the YAML file>.")]
Resume = Annotated[bool, typer.Option(help="Go on from the run's checkpoint where there is one.")]
Steps = Annotated[int | None, typer.Option(help="Batches to train on, instead of the YAML's.")]
Seed = Annotated[int | None, typer.Option(help="Seed, instead of the YAML's.")]


def pretrain(
    config: Config, output: Output = None, resume: Resume = False, steps: Steps = None, seed: Seed = None
) -> None:
    """Pretrain by snippet contrast, on poses without labels."""
    from poseline_training.pretrain import pretrain as run

    _quiet()
    settings = PretrainSettings.load(config, steps=steps, seed=seed)
    run(settings, output or Path("runs") / config.stem, resume)


def finetune(
    config: Config, output: Output = None, resume: Resume = False, steps: Steps = None, seed: Seed = None
) -> None:
    """Train for localization, from labels."""
    from poseline_training.finetune import finetune as run

    _quiet()
    settings = FinetuneSettings.load(config, steps=steps, seed=seed)
    run(settings, output or Path("runs") / config.stem, resume)


def evaluate(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.", exists=True)],
    corpus: Annotated[Path, typer.Option(help="Corpus folder.", exists=True)],
    split: Annotated[str, typer.Option(help="File of the corpus, without .npz: untrimmed_test …; a,b: as one.")],
    label_map: Annotated[Path | None, typer.Option(help="JSON: corpus → class → common label.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    negatives: Annotated[
        bool,
        typer.Option("--negatives", help="Only recordings without any of the model's classes: what is said is false."),
    ] = False,
    styles: Annotated[str | None, typer.Option(help="Only recordings in these manners, separated by commas.")] = None,
    native: Annotated[
        bool, typer.Option("--native", help="Add the share found of each of the set's own classes.")
    ] = False,
) -> None:
    """Stream every sequence of a split through the online path and score what the service would have sent."""
    from poseline_training.evaluate import evaluate as run
    from poseline_training.runtime import open_scorer

    opened = ModelBundle.open(bundle)
    figures = run(
        opened.manifest,
        open_scorer(opened),
        corpus,
        split,
        label_map,
        negatives=negatives,
        styles=tuple(one.strip() for one in styles.split(",")) if styles else None,
        native=native,
    )
    if json_:
        json_.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    shown = {k: v for k, v in figures.items() if k not in ("classes", "reliability")}
    Console().print_json(json.dumps(shown, allow_nan=False))


def export(
    config: Config,
    run: Annotated[Path | None, typer.Option(help="Finetuning run, instead of the YAML's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Bundle folder, instead of the YAML's.")] = None,
) -> None:
    """Make a bundle from a finetuning run: graphs, manifest, golden samples, model card; checked against torch."""
    from poseline_training.export import export as make

    bundle = make(ExportSettings.load(config, run=run, output=output))
    Console().print(f"{bundle.path}  {bundle.digest}")


def _quiet() -> None:
    """Lightning talks of its own products and internals; errors and progress are what a person needs."""
    import logging

    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
