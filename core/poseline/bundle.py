"""A model folder: `manifest.json`, the level graphs, golden samples, model card, licence.

Opening one checks every digest, so that what runs is what was exported. Golden samples are poses with the scores that
the workshop's network gave them; whoever runs the graphs replays them before trusting itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from poseline.enrolment import Bank
from poseline.errors import BundleError, UnknownModel
from poseline.manifest import ModelManifest
from poseline.skeleton import Floats

GOLDEN, BANK = "golden.npz", "bank.npz"
GOLDEN_TOLERANCE = 1e-4
"""Largest difference in a score that other hardware may make; the workshop itself asserts 1e-5."""


@dataclass(frozen=True)
class GoldenSamples:
    """poses (N, T, 16, 4) native; scores (N, T, 1 + K); boundaries (N, T, 2); vectors (N, T, D). whole_…: the twin's, where
    there is one."""

    poses: Floats
    scores: Floats
    boundaries: Floats
    vectors: Floats
    whole_scores: Floats | None = None
    whole_boundaries: Floats | None = None


@dataclass(frozen=True)
class ModelBundle:
    """An opened and checked model folder."""

    path: Path
    manifest: ModelManifest
    digest: str

    @classmethod
    def open(cls, path: Path | str) -> ModelBundle:
        """Read and check a folder. Raises BundleError."""
        path = Path(path)
        try:
            text = (path / "manifest.json").read_bytes()
            manifest = ModelManifest.model_validate_json(text)
        except FileNotFoundError:
            raise BundleError(f"{path} holds no manifest.json") from None
        except ValidationError as error:
            raise BundleError(f"{path / 'manifest.json'}: {error}") from error
        for name, expected in manifest.files.items():
            try:
                found = file_digest(path / name)
            except FileNotFoundError:
                raise BundleError(f"{path} lacks {name}, which its manifest names") from None
            if found != expected:
                raise BundleError(f"{path / name} has digest {found}, the manifest says {expected}")
        needed = {level.graph for level in manifest.state.levels} | {GOLDEN}
        if manifest.whole:
            needed.add(manifest.whole.graph)
        if missing := needed - set(manifest.files):
            raise BundleError(f"{path}: the manifest gives no digest for {', '.join(sorted(missing))}")
        return cls(path, manifest, "sha256:" + hashlib.sha256(text).hexdigest())

    def graph(self, level: str) -> Path:
        """The graph file of a level."""
        return self.path / next(one.graph for one in self.manifest.state.levels if one.name == level)

    def bank(self) -> Bank | None:
        """What else there is, for whoever enrols a class; None where the bundle has none."""
        if BANK not in self.manifest.files:
            return None
        with np.load(self.path / BANK, allow_pickle=False) as arrays:
            return Bank(arrays["vectors"].astype(np.float32), arrays["known"].astype(np.float32))

    def golden(self) -> GoldenSamples:
        with np.load(self.path / GOLDEN, allow_pickle=False) as arrays:
            return GoldenSamples(**arrays)


def file_digest(path: Path) -> str:
    """sha256 of a file, as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_bundle(models: Path, name: str | None = None) -> ModelBundle:
    """The bundle called `name` under `models`, or the one that `models/DEFAULT` names.

    Raises UnknownModel where no such folder is, BundleError where it is damaged.
    """
    if name in (None, "default"):
        try:
            name = (models / "DEFAULT").read_text().strip()
        except FileNotFoundError:
            raise UnknownModel(f"{models} names no default model (no file DEFAULT)") from None
    for path in sorted(models.iterdir()) if models.is_dir() else ():
        if (path / "manifest.json").exists() and path.name == name:
            return ModelBundle.open(path)
    raise UnknownModel(f"unknown model {name!r}", param="model")


def bundle_at(path: Path) -> ModelBundle:
    """The bundle in that folder, or the default one of a folder of bundles. Raises BundleError, UnknownModel."""
    return find_bundle(path) if (path / "DEFAULT").exists() else ModelBundle.open(path)
