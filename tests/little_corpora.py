"""Little corpora on disk, to train on for a few steps: four people each, and clips in four styles of what no class means."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from poseline_training.config import DataSettings, FinetuneSettings, NetworkSettings, SetSettings

FRAMES = 150
WRIST = 6


def write_corpora(root: Path) -> Path:
    """`made_up` (people 1, 2, 3, 10) and `other` (3, 4): both know waving and punching. `manners`: juggling."""
    rng = np.random.default_rng(0)
    _write(root / "made_up", rng, ("wave", "punch"), ["1", "2", "3", "10"], "untrimmed_train")
    _write(root / "made_up", rng, ("wave", "punch"), ["7", "8"], "untrimmed_test")
    _write(root / "other", rng, ("wave", "punch"), ["3", "4"], "stitched_train")
    _write(root / "other", rng, ("wave", "punch"), ["5", "6"], "stitched_test")
    _write(root / "manners", rng, ("juggle", "juggle"), ["0"] * 4, "trimmed_train", ["calm", "old", "sad", "wild"])
    used = {"common16": {"used_by": ["made_up", "other", "manners"], "facing": "+z"}}
    (root / "skeletons.json").write_text(json.dumps(used))
    return root


def _write(
    folder: Path,
    rng: np.random.Generator,
    classes: tuple[str, str],
    people: list[str],
    file: str,
    styles: list[str] | None = None,
) -> None:
    """Each person does one after the other, by the left wrist's height; two recordings a person."""
    folder.mkdir(exist_ok=True)
    names = ("background", *dict.fromkeys(classes))
    subjects = [person for person in people for _ in range(2)]
    one = np.repeat([0, names.index(classes[0]), 0, names.index(classes[1]), 0], FRAMES // 5)
    labels = np.tile(one, len(subjects))
    joints = rng.normal(scale=0.02, size=(len(labels), 16, 3)).astype(np.float32)
    joints[..., 1] += np.linspace(0, 1.6, 16)
    joints[:, WRIST, 1] += np.tile(np.repeat([0, 0.4, 0, 0.8, 0], FRAMES // 5), len(subjects))
    np.savez(
        folder / f"{file}.npz",
        joints=joints,
        seq_ptr=np.arange(len(subjects) + 1) * FRAMES,
        seq_id=np.array([f"{file} {person} {i}" for i, person in enumerate(subjects)]),
        subject=np.array(subjects),
        view=np.array(["0"] * len(subjects)),
        style=np.repeat(styles or [""] * len(people), 2),
        frame_label=labels.astype(np.int16),
    )
    (folder / "meta.json").write_text(json.dumps({"name": folder.name, "classes": names}))


def tiny(root: Path, **changes: object) -> FinetuneSettings:
    """Two steps on two own sets and three of the four manners, two heads."""
    sets = (
        SetSettings(corpus="made_up", files=("untrimmed_train",), weight=0.5),
        SetSettings(corpus="other", files=("stitched_train",), weight=0.3),
        SetSettings(
            corpus="manners", files=("trimmed_train",), weight=0.2, classes="foreign", styles=("calm", "old", "sad")
        ),
    )
    return FinetuneSettings.model_validate(
        {
            "steps": 2,
            "batch": 2,
            "frames": 48,
            "checkpoint_every": 1,
            "workers": 0,
            "precision": "32-true",
            "accelerator": "cpu",
            "data": DataSettings(root=root, label_map=None, sets=sets),
            "network": NetworkSettings(body="gru", width=96, look_aheads=(0, 4)),
            **changes,
        }
    )
