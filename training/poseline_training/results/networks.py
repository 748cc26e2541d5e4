"""A trained network as something to stream through, and what it costs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from poseline.errors import InputError
from poseline.manifest import LevelSpec, ModelManifest, StateSpec
from poseline.skeleton import BODY16
from poseline.whole import WholeScorer
from poseline_training.finetune import finetuned
from poseline_training.network.graph import GraphConvolution
from poseline_training.network.localizer import Localizer
from poseline_training.robustness.adversary import scorer_of

_FRAMES = 128, 192
"""Two lengths, so that what happens once, or at the ends, is not counted as happening in every frame."""


def open_head(folder: Path, look_ahead: int, temperature: float = 1.0) -> tuple[ModelManifest, WholeScorer]:
    """A finished run's answers by its head of that look-ahead, as a model without step graphs. Raises InputError."""
    network, classes = finetuned(folder)
    try:
        network.select(look_ahead)
    except ValueError as error:
        raise InputError(f"{folder}: {error}", param="look_ahead") from None
    network.temper(temperature)
    return manifest_of(folder.name, classes, look_ahead), scorer_of(network)


def manifest_of(name: str, classes: tuple[str, ...], look_ahead: int) -> ModelManifest:
    """What grid and decoder must know. Its one level has no graph: whoever scores has the network itself."""
    return ModelManifest(
        name=name,
        version="0",
        license="LicenseRef-unreleased",
        research_only=True,
        layout=BODY16.name,
        look_ahead=look_ahead,
        classes=classes,
        state=StateSpec(width=1, rings=(), levels=(LevelSpec(name="torch", graph="", every=1, reads=(), writes=()),)),
    )


def parameters(network: Localizer) -> int:
    return sum(one.numel() for one in network.parameters())


def multiply_adds(network: Localizer) -> int:
    """Of body and heads, a frame, much as they are deployed: what is linear before the body folds into its first map, and a
    joint graph is walked along its bones (`graph.GraphStep`), not multiplied out as in training. All bodies are counted
    alike; the exported default, whose first graph stays one matrix, does a tenth more."""
    few, many = (_multiply_adds(network, frames) for frames in _FRAMES)
    return round((many - few) / (_FRAMES[1] - _FRAMES[0]))


@torch.no_grad()
def _multiply_adds(network: Localizer, frames: int) -> float:
    spared = 0

    def spare(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal spared
        assert isinstance(layer, GraphConvolution)  # hooked on no others
        (subsets, c_in, c_out), V = layer.weight.shape, layer.adjacency.shape[1]
        spared += len(inputs[0]) * V * (V * c_in * c_out - subsets * c_in * (V + c_out))

    hooks = [one.register_forward_hook(spare) for one in network.modules() if isinstance(one, GraphConvolution)]
    features = network.normalizer(torch.zeros(1, frames, len(BODY16.joints), 4))
    with FlopCounterMode(display=False) as counter:
        vectors = network.body(features)
        network.classify(vectors)
        network.border(vectors)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / 2 - spared
