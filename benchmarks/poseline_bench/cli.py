"""The command `poseline bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def bench(
    what: Annotated[Literal["engine"], typer.Argument(help="What to measure.")] = "engine",
    models: Annotated[Path, typer.Option(help="Folder of bundles.", envvar="POSELINE_MODELS")] = Path("models"),
    model: Annotated[
        str | None, typer.Option(help="Bundle folder; default: the one that models/DEFAULT names.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure speed: cost per stream-frame beside the same run's sgemm peak."""
    from poseline_bench import engine

    engine.run(models, model, json_)
