"""What commands that read files share: videos as recordings, the bundle on this disk, and how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from poseline.bundle import ModelBundle, find_bundle
from poseline.cli import Recording
from poseline.errors import MissingExtra, PoselineError

AtOnce = Annotated[int, typer.Option(help="People to look for at once in a video or a camera's picture.", min=1, max=4)]
Pose = Annotated[
    Path, typer.Option(envvar="POSELINE_POSE", help="Folder of the pose extractor, for videos and cameras.")
]


Models = Annotated[Path, typer.Option(envvar="POSELINE_MODELS", help="Folder of model bundles.")]


def bundle_here(model: Path | None, models: Path) -> ModelBundle:
    """The one that is named, else the default one of the folder. Raises BundleError."""
    return ModelBundle.open(model) if model else find_bundle(models)


@dataclass(frozen=True)
class Watched(Recording):
    """A video's people, of whom there may be none; watched: the layout in which they are seen."""

    watched: str = ""

    @property
    def layout(self) -> str:
        return self.watched


def watched(path: Path, people: int, pose_model: Path, bar: Bar) -> Recording:
    """A video's people. Raises MissingExtra and what the extraction raises."""
    need("Video", "video", "av", "mediapipe")
    from poseline_video.extraction import LAYOUT, extract_people

    step = bar.begin("watching the video")
    video = extract_people(path, model=pose_model, people=people, on_progress=step)
    if not video.people:
        typer.echo(f"nobody was seen in {video.frames} pictures of {path}", err=True)
    return Watched(path.name, video.people, fps=video.fps, duration=video.duration, watched=LAYOUT.name)


def need(what: str, extra: str, *libraries: str) -> None:
    """Raises MissingExtra for a library that is not there, before anything is done that would be lost."""
    for library in libraries:
        if find_spec(library) is None:
            raise MissingExtra(what, library, extra)


def told(error: PoselineError) -> None:
    """Something was wrong that stops nothing."""
    typer.echo(error.detail, err=True)


class Bar:
    """Progress on the terminal; silent where standard error is none."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, what: str) -> Callable[[float], None]:
        """A new step of the work: call what comes back with the share that is done, 0 to 1."""
        task = self._progress.add_task(what, total=1.0)
        return lambda share: self._progress.update(task, completed=share)


@contextmanager
def progress() -> Iterator[Bar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress)
