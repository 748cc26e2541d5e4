"""`poseline corpus build`: recordings and videos, with what people wrote about them, as a corpus (docs/corpus.md).

It lives in the top room because it alone joins the core's readers with the video room's eyes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poseline.cli import Fps, ImageSize, InputFormat, Layout, Recording, open_source
from poseline.dealing import check_splits, instances, split_people
from poseline.errors import CorpusError, InputError
from poseline.formats.corpus import FPS, LabelledSequence, write_corpus
from poseline.formats.people import SPLITS, Who, read_people
from poseline.formats.poses import format_of
from poseline.formats.timelines import format_within, read_timelines
from poseline.formats.videos import is_video
from poseline.labelling import (
    Labels,
    Naming,
    Part,
    Recorded,
    by_recording,
    classes_of,
    labelled_name,
    parts_of,
    sequences_of,
)
from poseline.timeline import Timeline, source_rate
from poseline_cli.watching import AtOnce, Pose, progress, watched
from poseline_video import MODEL

_FEW = 5
"""Instances of a class in training below which a warning is worth its line."""


class Unlabelled(StrEnum):
    error = "error"
    skip = "skip"
    background = "background"


def corpus(
    action: Annotated[Literal["build"], typer.Argument(help="What to do.")],
    recordings: Annotated[
        list[Path], typer.Argument(help="Poses (docs/files.md) and videos; a folder stands for those in it.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the corpus; its name is the corpus'.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Files of labels, or folders of them: .eaf, .csv, .json …; else beside the recordings."),
    ] = None,
    people: Annotated[
        Path | None, typer.Option(help="CSV: recording, person; where needed track, view, split (train, val, test).")
    ] = None,
    person: Annotated[
        str | None, typer.Option(help="Or: regular expression whose first group is the person in a recording's name.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="The classes, with commas between; other labels are errors. Else all there are.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A label whose frames are neither trained on nor scored.")
    ] = None,
    unlabelled: Annotated[Unlabelled, typer.Option(help="What a recording is that no file labels.")] = Unlabelled.error,
    license: Annotated[str | None, typer.Option(help="Licence of the recordings, for the record.")] = None,
    input_format: InputFormat = None,
    fps: Fps = None,
    layout: Layout = None,
    image_size: ImageSize = None,
    in_video: AtOnce = 1,
    pose: Pose = Path("pose"),
) -> None:
    """Make a corpus to train on from recordings and labels, dealt to train, val and test by person."""
    files = _recordings(recordings, input_format)
    named = _people(files, people, person)
    wanted = None if classes is None else tuple(one.strip() for one in classes.split(",") if one.strip())
    ignored = frozenset(ignore or ())
    with progress() as bar:

        @cache
        def read(name: str) -> Recorded:
            path = files[name]
            if is_video(str(path), input_format):
                found: Recording = watched(path, in_video, pose / MODEL, bar)
            else:
                found = open_source(str(path), 0, 0.0, input_format, fps, layout, image_size, None)
            return _recorded(name, found)

        written: list[Labels] = []
        for file in _label_files(labels or recordings, people):

            def rate(source: str, file: Path = file) -> float | None:
                return read(labelled_name(source, file, files)).fps

            written += [Labels(file, timeline) for timeline in read_timelines(file, rate)]
        labelled = _complete(by_recording(written, files), files, unlabelled)
        step = bar.begin("reading recordings")
        parts: list[Part] = []
        for n, (name, found) in enumerate(labelled.items(), 1):
            parts += parts_of(read(name), found, named)
            step(n / len(labelled))
    names = classes_of(parts, wanted, ignored)
    of: dict[str, list[LabelledSequence]] = {}
    for part in parts:
        of.setdefault(part.who.person, []).extend(sequences_of(part, names, ignored, output.resolve().name))
    dealt = split_people(of, {part.who.person: part.who.split for part in parts})
    splits = {split: [one for person in of if dealt[person] == split for one in of[person]] for split in SPLITS}
    splits = {split: many for split, many in splits.items() if many}
    check_splits(splits, names)
    write_corpus(output, splits, {"license": license, "people": dealt, "made_by": "poseline corpus build"})
    _tell(output, splits, names, sum(one.label not in ignored for part in parts for one in part.segments))


# --- what there is ------------------------------------------------------------------------------------------------------


def _recordings(given: Sequence[Path], input_format: str | None) -> dict[str, Path]:
    """Files of poses and videos by name, which is theirs without suffix. Raises CorpusError, InputError."""
    found: dict[str, Path] = {}
    for path in _listed(given, lambda file: _is_recording(file, input_format)):
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise CorpusError(f"{found[name]} and {path} are both called {name!r}: labels could not tell them apart")
        found[name] = path
    if not found:
        raise CorpusError(f"no recording in {', '.join(map(str, given))}")
    return found


def _label_files(given: Sequence[Path], people: Path | None) -> list[Path]:
    """Raises InputError."""
    found = _listed(given, lambda file: format_within(file) is not None)
    return [one for one in found if people is None or one.resolve() != people.resolve()]


def _listed(given: Sequence[Path], fits: Callable[[Path], bool]) -> list[Path]:
    """The files themselves, and those of the folders that fit. Raises InputError for what is not there."""
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise InputError(f"{path} is missing")
        if path.is_dir() and not fits(path):
            found += [one for one in sorted(path.iterdir()) if not one.name.startswith(".") and fits(one)]
        else:
            found.append(path)
    return found


def _is_recording(path: Path, input_format: str | None) -> bool:
    """Of what lies in a folder. A `.txt` may be anybody's notes: only who names the format has poses in it."""
    if is_video(str(path)):
        return True
    if path.is_file() and (format_within(path) or (path.suffix.lower() == ".txt" and input_format is None)):
        return False
    try:
        return input_format in (None, format_of(path))
    except InputError:
        return False


def _recorded(name: str, recording: Recording) -> Recorded:
    """Raises CorpusError."""
    if not recording.people:
        raise CorpusError(f"nobody is seen in {name}")
    clocks = [poses.timestamps for poses in recording.people.values()]
    fps = source_rate(recording.fps, clocks, FPS)
    last = max(float(clock[-1]) for clock in clocks) + 1 / fps
    return Recorded(name, recording.people, max(last, recording.duration or 0.0), fps)


# --- whose labels -------------------------------------------------------------------------------------------------------


def _people(files: Mapping[str, Path], table: Path | None, pattern: str | None) -> Naming:
    """Raises CorpusError, InputError."""
    if (table is None) == (pattern is None):
        raise InputError("who is in which recording must be known, to keep people apart: say --people or --person")
    if table is not None:
        known = read_people(table, files)

        def by_table(name: str, track: str) -> Who:
            found = known.get((name, track)) or known.get((name, ""))
            if found is None:
                raise CorpusError(f"{table} does not say who {track!r} of {name} is")
            return found

        return by_table
    try:
        finding = re.compile(pattern or "")
    except re.error as error:
        raise InputError(f"--person {pattern!r} is no regular expression: {error}") from None
    if finding.groups != 1:
        raise InputError(f"--person {pattern!r} has {finding.groups} groups, expected one: the person")

    def by_name(name: str, track: str) -> Who:
        match = finding.search(name)
        if match is None:
            raise CorpusError(f"--person {pattern!r} finds nobody in the name {name!r}")
        return Who(match[1], "", "")

    return by_name


def _complete(found: dict[str, Labels], files: Mapping[str, Path], unlabelled: Unlabelled) -> dict[str, Labels]:
    """Labels of every recording, in the recordings' order. Raises CorpusError."""
    lacking = [name for name in files if name not in found]
    if lacking and unlabelled is Unlabelled.error:
        some = ", ".join(lacking[:8]) + (" …" if len(lacking) > 8 else "")
        raise CorpusError(f"no labels of {some}: label them, or say --unlabelled skip or --unlabelled background")
    if unlabelled is Unlabelled.background:
        found = found | {name: Labels(files[name], Timeline(source=name, segments=())) for name in lacking}
    return {name: found[name] for name in files if name in found}


# --- what was made ------------------------------------------------------------------------------------------------------


def _tell(output: Path, splits: Mapping[str, Sequence[LabelledSequence]], classes: Sequence[str], labels: int) -> None:
    """A table of instances by class and split, and what is worth a second look."""
    table = Table("class", *(escape(split) for split in splits), title=escape(str(output)))
    counts = {split: instances(many) for split, many in splits.items()}
    for name in classes[1:]:
        table.add_row(escape(name), *(str(counts[split][name]) for split in splits))
    table.add_section()
    table.add_row("minutes", *(f"{sum(len(s.labels) for s in many) / FPS / 60:.1f}" for many in splits.values()))
    table.add_row("people", *(str(len({s.subject for s in many})) for many in splits.values()))
    Console().print(table)
    warn = Console(stderr=True, highlight=False).print
    if few := [name for name in classes[1:] if counts["train"][name] < _FEW]:
        warn(f"[yellow]fewer than {_FEW} in train[/]: {escape(', '.join(few))}")
    for split in ("val", "test"):
        if split not in splits:
            warn(f"[yellow]nobody in {split}[/]")
        elif none := [name for name in classes[1:] if not counts[split][name]]:
            warn(f"[yellow]none in {split}[/]: {escape(', '.join(none))}")
    found = sum(sum(count.values()) for count in counts.values())
    if found < labels:
        warn(f"[yellow]{labels - found} of {labels} labels[/] are ignored ones, or where nobody is seen")
