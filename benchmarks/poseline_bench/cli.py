"""The command `poseline bench`."""

from __future__ import annotations

import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer


def bench(
    what: Annotated[
        Literal["engine", "server", "video", "all", "hostile", "soak", "fuzz", "kill"],
        typer.Argument(help="What to measure."),
    ] = "all",
    models: Annotated[Path, typer.Option(help="Folder of bundles.", envvar="POSELINE_MODELS")] = Path("models"),
    model: Annotated[
        str | None, typer.Option(help="Bundle folder; default: the one that models/DEFAULT names.")
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here (`all`: under `engine` and `server`).")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw the figures into this folder.")] = None,
    video: Annotated[Path | None, typer.Option(help="What `video` is to watch: a person, for some seconds.")] = None,
    seconds: Annotated[float, typer.Option(min=30, help="How long `soak` lasts.", envvar="SOAK_SECONDS")] = 600,
    messages: Annotated[int, typer.Option(min=1, help="How many `fuzz` sends.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of all that `fuzz` sends.")] = 0,
) -> None:
    """Measure speed: the engine beside the same run's peak and beside its rivals, the whole server, and from a video to
    events. Or put a server to the proof: `soak`, a churn under which it must not grow; `fuzz`, clients that do everything
    wrong; `hostile`, clients that mean harm, beside streams that are timed; `kill`, its death under live streams."""
    if what in ("soak", "fuzz", "kill"):
        _prove(what, models, model, json_, plots, seconds=seconds, messages=messages, seed=seed)
    elif what == "all":
        _all(models, model, json_, plots)
    elif what == "video":
        from poseline_bench.video import run  # MediaPipe, only where it is to run

        run(models, model, json_, video)
    else:
        _part(what, models, model, json_, plots)


def _part(what: str, models: Path, model: str | None, json_file: Path | None, plots: Path | None) -> None:
    import_module(f"poseline_bench.{what}").run(models, model, json_file, plots)


def _prove(
    what: str,
    models: Path,
    model: str | None,
    json_file: Path | None,
    plots: Path | None,
    *,
    seconds: float,
    messages: int,
    seed: int,
) -> None:
    from poseline_bench import fuzz, kill, soak

    if what == "soak":
        soak.run(models, model, json_file, plots, seconds=seconds)
    elif what == "fuzz":
        fuzz.run(models, model, json_file, messages=messages, seed=seed)
    else:
        kill.run(models, model, json_file)


def _all(models: Path, model: str | None, json_file: Path | None, plots: Path | None) -> None:
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for what in ("engine", "server"):
            part = Path(folder) / f"{what}.json"
            _part(what, models, model, part, plots)
            figures[what] = json.loads(part.read_text())
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
