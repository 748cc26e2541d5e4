"""A network as plain arrays, in its bundle: what step graphs have folded away, for those who train on from it.

`weights.npz` holds an array for each name of the network's state, and `settings`: its body, width, dropout and look-aheads,
as JSON. It is the network that the bundle runs, of one head, temperature included. No pickles, and no torch to read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from poseline.bundle import ModelBundle
from poseline.errors import BundleError, InputError
from poseline.formats.arrays import read_arrays
from poseline.skeleton import BODY16
from poseline_training.config import NetworkSettings
from poseline_training.network.localizer import Localizer

WEIGHTS = "weights.npz"
_SETTINGS = "settings"


def write_weights(network: Localizer, path: Path) -> None:
    settings = NetworkSettings(look_aheads=network.look_aheads, **network.made_with)
    arrays: dict[str, NDArray[Any]] = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    arrays[_SETTINGS] = np.array(settings.model_dump_json())
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]


def read_weights(bundle: ModelBundle) -> tuple[Localizer, NetworkSettings]:
    """The bundle's network, in evaluation, and what it was made with. Raises BundleError where it has none."""
    path = bundle.path / WEIGHTS
    if WEIGHTS not in bundle.manifest.files:
        raise BundleError(f"{bundle.path} has no {WEIGHTS}: it was exported without what training on needs")
    try:
        arrays = dict(read_arrays(path))
        settings = NetworkSettings.model_validate_json(str(arrays.pop(_SETTINGS)))
        network = Localizer(BODY16, len(bundle.manifest.classes), **settings.model_dump())
        network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    except (InputError, KeyError, RuntimeError, ValidationError) as error:
        raise BundleError(f"{path} does not hold the bundle's network: {error}") from None
    return network.eval(), settings
