"""What an export of one's own run says without being asked: from the run, its corpus and the bundle that it stands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from poseline.bundle import ModelBundle
from poseline.errors import InputError
from poseline.formats.corpus import FPS, LabelledSequence, read_corpus, runs
from poseline_training.config import EvaluationSet, ExportSettings, FinetuneSettings, SetSettings
from poseline_training.running import RESOLVED

_CAVEAT = "People whom training has not seen; how well a model does on others, only others can tell."
_WITHOUT_TEST = (
    "**Nobody was left for a test**: these are the validation people, on whom the thresholds were chosen, so figures are "
    "better than they would be on others."
)
_UNMEASURED = "**Nobody was left to measure on**: nothing is known of how well it does."
_LIMITS = """\
- For people, actions and cameras like those of the recordings above. Motion that none of them shows may be taken for one of
  the classes: have such motion recorded, without labels, before you trust it (`--unlabelled background`).
- A handful of recordings makes a model for a beginning. Do not use it for decisions about people, for surveillance, or for
  anything medical."""


def own_export(run: Path, name: str, version: str, output: Path, license: str | None) -> ExportSettings:
    """Everything of an export that a run can tell. Raises InputError, CorpusError, BundleError."""
    if not (run / RESOLVED).exists():
        raise InputError(f"{run} is no run: it holds no {RESOLVED}", param="run")
    settings = FinetuneSettings.load(run / RESOLVED)
    trunk = None if settings.trunk is None else ModelBundle.open(settings.trunk)
    sets = [one for one in settings.data.sets if one.classes == "own"]
    test, val = (_held_out(settings, sets, split) for split in ("test", "val"))
    return ExportSettings(
        name=name,
        version=version,
        run=run,
        output=output,
        description=_description(sets, trunk),
        pictures=trunk is not None and 2 in trunk.manifest.dims,
        look_ahead=settings.network.look_aheads[0],
        data_notes=_notes(settings, sets, trunk),
        limits=_LIMITS,
        caveat=_CAVEAT if test else _WITHOUT_TEST if val else _UNMEASURED,
        data=settings.data,
        choose=val,
        evaluate=test or val,
        **_licence(settings, sets, trunk, license),
    )


def _held_out(settings: FinetuneSettings, sets: list[SetSettings], split: str) -> tuple[EvaluationSet, ...]:
    """The files of that split which the sets have and did not train on."""
    return tuple(
        EvaluationSet(corpus=one.corpus, split=file)
        for one in sets
        for file in dict.fromkeys(f"{name.removesuffix('_train')}_{split}" for name in one.files)
        if file not in one.files and (settings.data.root / one.corpus / f"{file}.npz").exists()
    )


def _licence(
    settings: FinetuneSettings, sets: list[SetSettings], trunk: ModelBundle | None, license: str | None
) -> dict[str, Any]:
    """A trunk for research alone makes a model for research alone. Else as is said here, or of the recordings."""
    if trunk and trunk.manifest.research_only:
        if license is not None:
            raise InputError(
                f"{trunk.manifest.name} is for research alone ({trunk.manifest.license}), and so is what stands on it",
                param="license",
            )
        license = trunk.manifest.license
    told = [_meta(settings, one).get("license") for one in sets]
    license = license or next((one for one in told if one), None) or (trunk.manifest.license if trunk else None)
    if license is None:
        raise InputError("under which licence the weights stand is not known: say --license", param="license")
    text = [f"The weights in this folder: {license}. No warranty. Not a medical device."]
    if trunk:
        name = f"{trunk.manifest.name}, version {trunk.manifest.version}"
        text += [
            f"They were trained on from those of {name}, whose licence reads:",
            (trunk.path / "LICENSE").read_text(),
        ]
    research_only = trunk is not None and trunk.manifest.research_only
    return {"license": license, "license_text": "\n\n".join(text), "research_only": research_only}


def _description(sets: list[SetSettings], trunk: ModelBundle | None) -> str:
    on = f", on the trunk of {trunk.manifest.name} {trunk.manifest.version}" if trunk else ""
    return f"Classes of one's own, trained on {', '.join(one.corpus for one in sets) or 'the scripted actor'}{on}."


def _notes(settings: FinetuneSettings, sets: list[SetSettings], trunk: ModelBundle | None) -> str:
    """A table of each corpus, and where the trunk comes from."""
    parts = [_table(settings, one) for one in sets]
    if trunk:
        name = f"{trunk.manifest.name}, version {trunk.manifest.version} (`{trunk.digest}`, {trunk.manifest.license})"
        parts.append(f"Training began at the trunk of {name}; what that has learnt from stands in its own card.")
    return "\n\n".join(parts)


def _table(settings: FinetuneSettings, one: SetSettings) -> str:
    folder = settings.data.root / one.corpus
    held_out = [part.split for split in ("val", "test") for part in _held_out(settings, [one], split)]
    ordered = [*one.files, *held_out]
    splits = {file: read_corpus(folder / f"{file}.npz") for file in ordered}
    classes = next(iter(splits.values()))[0].classes
    licence = _meta(settings, one).get("license")
    lines = [
        f"`{one.corpus}`" + (f" ({licence})" if licence else "") + ": instances of each class, minutes and people.",
        "",
        "| | " + " | ".join(ordered) + " |",
        "|---" * (len(ordered) + 1) + "|",
    ]
    rows = {
        name: [str(_instances(splits[file], label)) for file in ordered] for label, name in enumerate(classes) if label
    }
    rows["minutes"] = [f"{sum(len(s.labels) for s in splits[file]) / FPS / 60:.1f}" for file in ordered]
    rows["people"] = [str(len({s.subject for s in splits[file]})) for file in ordered]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())])


def _instances(sequences: list[LabelledSequence], label: int) -> int:
    return sum(found == label for one in sequences for _, _, found in runs(one.labels))


def _meta(settings: FinetuneSettings, one: SetSettings) -> dict[str, Any]:
    return json.loads((settings.data.root / one.corpus / "meta.json").read_text())
