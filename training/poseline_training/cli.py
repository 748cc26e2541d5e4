"""The workshop's commands: pretrain, finetune, evaluate, export; folds, measure, robustness, alarms, results, reproduce."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from poseline.bundle import ModelBundle, bundle_at
from poseline.errors import InputError
from poseline_training.config import OWN, ExportSettings, FinetuneSettings, PretrainSettings, own_data

Config = Annotated[Path, typer.Option(help="Experiment YAML: what differs from the defaults.", exists=True)]
Output = Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name of the YAML file>.")]
Resume = Annotated[bool, typer.Option(help="Go on from the run's checkpoint where there is one.")]
Steps = Annotated[int | None, typer.Option(help="Batches to train on, instead of the YAML's.")]
Seed = Annotated[int | None, typer.Option(help="Seed, instead of the YAML's.")]
RESULTS, ROWS = Path("training/configs/results.yaml"), Path("docs/results/rows")


def pretrain(
    config: Config, output: Output = None, resume: Resume = False, steps: Steps = None, seed: Seed = None
) -> None:
    """Pretrain by snippet contrast, on poses without labels."""
    from poseline_training.pretrain import pretrain as run

    _quiet()
    settings = PretrainSettings.load(config, steps=steps, seed=seed)
    run(settings, output or Path("runs") / config.stem, resume)


def finetune(
    config: Annotated[
        Path, typer.Option(help="Experiment YAML; else the one for a few recordings of one's own.", exists=True)
    ] = OWN,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Bundle whose trunk is kept; of a folder of bundles, the default one.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="The corpus to train on, instead of the YAML's (poseline corpus build).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/<name of the corpus or the YAML file>.")
    ] = None,
    resume: Resume = False,
    steps: Steps = None,
    seed: Seed = None,
) -> None:
    """Train for localization, from labels: an experiment, or classes of one's own on a bundle's trunk."""
    from poseline_training.finetune import finetune as run

    if config == OWN and corpus is None:
        raise InputError(
            "what to train on is not said: --corpus FOLDER, as poseline corpus build makes it, or --config"
        )
    _quiet()
    trunk = None if from_ is None else bundle_at(from_).path.resolve()
    data = None if corpus is None else own_data(corpus)
    settings = FinetuneSettings.load(config, steps=steps, seed=seed, trunk=trunk, data=data)
    run(settings, output or Path("runs") / (config.stem if corpus is None else corpus.resolve().name), resume)


def evaluate(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.", exists=True)],
    corpus: Annotated[Path, typer.Option(help="Corpus folder.", exists=True)],
    split: Annotated[str, typer.Option(help="File of the corpus, without .npz: untrimmed_test …; a,b: as one.")],
    label_map: Annotated[
        Path | None,
        typer.Option(
            help="JSON: corpus → class → common label. Else unified_labels.json beside the corpora, if it is there."
        ),
    ] = None,
    own_labels: Annotated[
        bool, typer.Option("--own-labels", help="The corpus' own class names are the model's.")
    ] = False,
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
    beside = corpus.resolve().parent / "unified_labels.json"
    figures = run(
        opened.manifest,
        open_scorer(opened),
        corpus,
        split,
        None if own_labels else label_map or (beside if beside.exists() else None),
        negatives=negatives,
        styles=tuple(one.strip() for one in styles.split(",")) if styles else None,
        native=native,
    )
    if figures["left_out_classes"]:
        typer.echo(f"no class of the model, frames not counted: {', '.join(figures['left_out_classes'])}", err=True)
    if json_:
        json_.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    shown = {k: v for k, v in figures.items() if k not in ("classes", "reliability")}
    Console().print_json(json.dumps(shown, allow_nan=False))


def export(
    config: Annotated[
        Path | None, typer.Option(help="YAML that says all of it; else --run and --name.", exists=True)
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Finetuning run, instead of the YAML's.", exists=True)] = None,
    name: Annotated[str | None, typer.Option(help="The model's name, instead of the YAML's.")] = None,
    version: Annotated[str | None, typer.Option(help="The model's version, instead of the YAML's.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the weights, instead of the YAML's.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Bundle folder, instead of the YAML's or models/<name>-<version>.")
    ] = None,
) -> None:
    """Make a bundle from a finetuning run: graphs, manifest, golden samples, model card; checked against torch.

    Without a YAML the run tells its classes, its licence and its corpus; thresholds of each class are chosen on validation.
    """
    from poseline_training.export import export as make
    from poseline_training.own import own_export

    if config is not None:
        said = {"run": run, "name": name, "version": version, "license": license, "output": output}
        settings = ExportSettings.load(config, **said)
    elif run is None or name is None:
        raise InputError("what to export is not said: --run with --name, or --config")
    else:
        version = version or "1"
        settings = own_export(run, name, version, output or Path("models") / f"{name}-{version}", license)
    bundle = make(settings)
    Console().print(f"{bundle.path}  {bundle.digest}")


def folds(
    config: Config,
    output: Annotated[Path, typer.Option(help="Folder of the folds: a run each, and the figures of all.")],
    folds: Annotated[int, typer.Option(help="Into how many people are dealt.", min=2)] = 4,
    fold: Annotated[list[int] | None, typer.Option(help="Train only this one, and others so named.")] = None,
    steps: Steps = None,
    seed: Seed = None,
    teachers: Annotated[list[Path] | None, typer.Option(help="Folder of a teacher's folds.")] = None,
    decode: Annotated[
        list[str] | None,
        typer.Option(help="Train nothing; decode the kept scores so: 'min_score=0.5,off_score=0.25'."),
    ] = None,
    draws: Annotated[int, typer.Option(help="Of persons, for intervals; 0: none.", min=0)] = 100,
) -> None:
    """Train a recipe without some of the people, a fold after another, and judge it on them."""
    from poseline.decoding import DecodingOptions
    from poseline_training import folds as made
    from poseline_training.results.tables import folds as table

    _quiet()
    planned = made.plan(FinetuneSettings.load(config, steps=steps, seed=seed), output, folds, teachers or ())
    if decode:
        wanted = {f"figures-{text}.json": made.decoding_of(text) for text in decode}
    else:
        for one in planned:
            if fold is None or one.number in fold:
                made.run_fold(one)
        wanted = {"figures.json": DecodingOptions()}
    for name, options in wanted.items():
        found = made.figures(planned, options, draws)
        made.write(found, output / name)
        typer.echo(f"{output / name}\n{table({output.name: found}, ('all',))}")


def measure(
    config: Annotated[Path, typer.Option(help="What to measure: results.yaml.", exists=True)],
    output: Annotated[Path, typer.Option(help="JSON file of the row; its stem is the row's name.")],
    run: Annotated[Path | None, typer.Option(help="Finished finetuning run.", exists=True)] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose step graphs answer instead.", exists=True)] = None,
    look_ahead: Annotated[int | None, typer.Option(help="The run's head, instead of the YAML's for the row.")] = None,
) -> None:
    """Measure a finished run or a bundle on the test sets and on motion that holds no class."""
    from poseline_training.results.measure import measure as row
    from poseline_training.results.rows import write_row
    from poseline_training.results.settings import ResultsSettings

    write_row(row(ResultsSettings.load(config), output.stem, run, bundle, look_ahead), output)
    typer.echo(str(output))


def robustness(
    bundle: Annotated[Path, typer.Option(help="Bundle to bend recordings for.", exists=True)],
    run: Annotated[Path | None, typer.Option(help="The run it was made from, for the adversary.", exists=True)] = None,
    config: Annotated[Path, typer.Option(help="Which sets to bend: results.yaml.", exists=True)] = RESULTS,
    output: Annotated[Path, typer.Option(help="JSON file of the figures.")] = ROWS.parent / "robustness.json",
) -> None:
    """Measure what is left of a bundle's figures when its input is bent by degrees, or attacked."""
    from poseline_training.finetune import finetuned
    from poseline_training.results.figures import rounded
    from poseline_training.results.measure import recordings
    from poseline_training.results.settings import ResultsSettings
    from poseline_training.robustness.figures import measure as bend
    from poseline_training.runtime import open_scorer

    settings, opened = ResultsSettings.load(config), ModelBundle.open(bundle)
    network = finetuned(run)[0] if run else None
    if network:
        network.select(opened.manifest.look_ahead)
    found = bend(opened.manifest, open_scorer(opened), network, recordings(settings), settings.data.label_map)
    output.write_text(json.dumps(rounded(found), indent=1) + "\n")
    typer.echo(str(output))


def alarms(
    bundle: Annotated[Path, typer.Option(help="Bundle that answers.", exists=True)],
    config: Annotated[Path, typer.Option(help="On which sets: results.yaml.", exists=True)] = RESULTS,
    output: Annotated[Path, typer.Option(help="JSON file of the figures.")] = ROWS.parent / "alarms.json",
) -> None:
    """Measure how soon starts are told, and how often in vain, by when they are told."""
    from poseline_training.results.alarms import measure as tell
    from poseline_training.results.figures import rounded
    from poseline_training.results.measure import recordings
    from poseline_training.results.settings import ResultsSettings
    from poseline_training.runtime import open_scorer

    settings, opened = ResultsSettings.load(config), ModelBundle.open(bundle)
    found = tell(settings, opened.manifest, open_scorer(opened), recordings(settings))
    output.write_text(json.dumps(rounded(found), indent=1) + "\n")
    typer.echo(str(output))


def results(
    config: Annotated[Path, typer.Option(help="Groups of rows, and words.", exists=True)] = RESULTS,
    rows: Annotated[Path, typer.Option(help="Folder of measured rows.")] = ROWS,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("docs/results.md"),
) -> None:
    """Write the page of results from the rows."""
    from poseline_training.results.pages import write_page
    from poseline_training.results.settings import ResultsSettings

    write_page(ResultsSettings.load(config), rows, output)


def reproduce(
    name: Annotated[str, typer.Argument(help="A row of the results, or an experiment with -s and its seed.")],
    config: Annotated[Path, typer.Option(help="Beside it lie the experiments.", exists=True)] = RESULTS,
    rows: Annotated[Path, typer.Option(help="Folder of measured rows, to compare with.")] = ROWS,
    runs: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
) -> None:
    """Train a row of the results again, and what it needs; measure it and show it beside the one that was kept."""
    from poseline_training.results.measure import measure as row
    from poseline_training.results.reproduce import train
    from poseline_training.results.rows import Rows, write_row
    from poseline_training.results.settings import ResultsSettings
    from poseline_training.results.tables import beside

    _quiet()
    settings = ResultsSettings.load(config)
    run = train(settings.run_of(name), config.parent, runs)
    found = row(settings, name, run)
    write_row(found, run / f"{name}.json")
    typer.echo(beside(found, Rows(rows).get(name)))


def _quiet() -> None:
    """Lightning talks of its own products and internals; errors and progress are what a person needs."""
    import logging

    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
