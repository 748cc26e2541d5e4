"""`poseline enroll`: a class from one to five examples, in a running server (`--url`) or beside a bundle on this disk, where
servers that share the folder find it.

It lives in the top room for the same reason as `localize`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poseline.bundle import ModelBundle
from poseline.cli import Fps, ImageSize, InputFormat, Key, Layout, Recording, open_source
from poseline.enrolment import EXAMPLES
from poseline.errors import InputError
from poseline.formats.videos import is_video
from poseline.protocol import EnrolledClassInfo, ExampleSpec
from poseline.prototypes import Shown, check_class_name, folder_of, forget, keep, learn, vocabulary_of
from poseline.remote import RemoteClasses
from poseline.translation import enrolled_info
from poseline_cli.watching import AtOnce, Models, Pose, bundle_here, need, progress, told, watched
from poseline_video import MODEL

_MARKED = re.compile(r"(.+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
_SESSION = re.compile(r"session:([^/]+)/(.+)")


def enroll(
    name: Annotated[
        str | None, typer.Argument(help="The class. Without it, those that are enrolled are listed.")
    ] = None,
    examples: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"One to {EXAMPLES} files of poses or videos of one person, each FILE or FILE@FROM-TO in seconds; or "
            "session:ID/TRACK@FROM-TO of a live session (with --url)."
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Enroll the class no more.")] = False,
    person: Annotated[str | None, typer.Option(help="Whose poses, where files hold several people.")] = None,
    url: Annotated[str | None, typer.Option(help="A server; without it, a bundle on this disk.")] = None,
    key: Key = None,
    model: Annotated[Path | None, typer.Option(help="Bundle folder on this disk; else the default one.")] = None,
    models: Models = Path("models"),
    input_format: InputFormat = None,
    fps: Fps = None,
    layout: Layout = None,
    image_size: ImageSize = None,
    people: AtOnce = 1,
    pose: Pose = Path("pose"),
) -> None:
    """Make a class from one to five examples, without training; list such classes, or remove one."""
    classes = RemoteClasses(url, key=key) if url else _Beside(bundle_here(model, models))
    if remove and name is None:
        raise InputError("which class is to be removed is not said")
    if name is None:
        _print(classes.listed())
        return
    check_class_name(name)
    if remove:
        if examples:
            raise InputError("to remove a class takes its name alone")
        classes.remove(name)
        return
    if not 1 <= len(examples or ()) <= EXAMPLES:
        raise InputError(f"{len(examples or ())} examples are named, expected 1 to {EXAMPLES}")
    with progress() as bar:

        def open_example(source: str) -> Recording:
            if is_video(source, input_format):
                return watched(Path(source), people, pose / MODEL, bar)
            return open_source(source, 0, 1.0, input_format, fps, layout, image_size, None)

        shown = [_example(one, open_example, person) for one in examples or ()]
        learnt = classes.enroll(name, shown)
    _print([learnt])


def _example(text: str, open_example: Callable[[str], Recording], person: str | None) -> Shown | ExampleSpec:
    """Raises InputError and what the readers raise."""
    marked = None if _is_file(text) else _MARKED.fullmatch(text)
    source = marked[1] if marked else text
    before, at, marks = text.rpartition("@")
    if at and marked is None and not _is_file(text) and (_is_file(before) or _SESSION.fullmatch(before)):
        raise InputError(f"{text}: {marks!r} is no FROM-TO in seconds, as in 3.2-5.1")
    start, end = (float(marked[2]), float(marked[3])) if marked else (None, None)
    if live := _SESSION.fullmatch(source):
        return ExampleSpec(session_id=live[1], track_id=live[2], start=start, end=end)
    known = dict(open_example(source).people)
    if person is None and len(known) == 1:
        [person] = known
    if person not in known:
        who = ", ".join(known) or "nobody"
        what = "one is to be named (--person)" if person is None else f"not {person}"
        raise InputError(f"{source} shows {who}: {what}")
    return Shown(known[person], start, end)


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a name that is too long
        return False


class _Beside:
    """What is enrolled beside a bundle on this disk; as `RemoteClasses`."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._bundle = bundle
        self._vocabulary = vocabulary_of(bundle, told)

    def enroll(self, name: str, examples: Sequence[Shown | ExampleSpec]) -> EnrolledClassInfo:
        need("Enrolling without a server (--url)", "service", "onnxruntime", "prometheus_client")
        from poseline_service.engine import open_scorer

        shown = [one for one in examples if isinstance(one, Shown)]
        if len(shown) < len(examples):
            raise InputError("live sessions are a server's: say --url")
        one = learn(self._bundle, open_scorer(self._bundle, slots=1), name, shown)
        self._vocabulary.put(one)  # there is room for it, or it is not kept
        keep(folder_of(self._bundle), one)
        return enrolled_info(self._vocabulary, one)

    def listed(self) -> list[EnrolledClassInfo]:
        return [enrolled_info(self._vocabulary, one) for one in self._vocabulary.enrolled]

    def remove(self, name: str) -> None:
        if not (folder_of(self._bundle) / f"{name}.json").exists():
            raise InputError(f"no class {name!r} is enrolled")
        forget(folder_of(self._bundle), name)


def _print(classes: Sequence[EnrolledClassInfo]) -> None:
    table = Table("class", "label_id", "examples", "frames", "enrolled")
    for one in classes:
        table.add_row(
            escape(one.name), str(one.label_id), str(one.examples), str(one.frames), f"{one.created:%Y-%m-%d %H:%M}"
        )
    Console().print(table)
