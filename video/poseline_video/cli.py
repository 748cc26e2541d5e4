"""The command `poseline pose-model`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from poseline.errors import InputError
from poseline_video import pose_model


def manage_pose_model(
    what: Annotated[Literal["build"], typer.Argument(help="What to do.")],
    wheel: Annotated[Path | None, typer.Option(help="A wheel of MediaPipe 0.10.21, instead of fetching it.")] = None,
    file: Annotated[Path | None, typer.Option(help="A ready .task, instead of making one.")] = None,
    output: Annotated[Path, typer.Option(help="Folder.", envvar="POSELINE_POSE")] = Path("pose"),
    vision_package: Annotated[
        Path | None, typer.Option(help="The browser's part as npm packs it (.tgz), instead of fetching it.")
    ] = None,
    without_browser: Annotated[bool, typer.Option("--without-browser", help="Leave the browser's part out.")] = False,
) -> None:
    """Make the folder with the pose extractor's model, and with what the page needs to run it in a browser."""
    if wheel and file:
        raise InputError("--wheel and --file exclude each other")
    with tempfile.TemporaryDirectory(prefix="poseline-pose-") as fetched:
        if file:
            made, digest = pose_model.take_model(file, output)
            if digest != pose_model.KNOWN:
                typer.echo("warning: this is not the model that Poseline knows and is tested with", err=True)
        else:
            made, digest = (
                pose_model.make_model(wheel or pose_model.fetch_wheel(Path(fetched)), output),
                pose_model.KNOWN,
            )
        typer.echo(f"{made}  sha256 {digest}")
        if not without_browser:
            package = vision_package or pose_model.fetch_browser(Path(fetched))
            typer.echo(pose_model.take_browser(package, output))
