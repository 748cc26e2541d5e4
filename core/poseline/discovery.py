"""What a server tells of itself over HTTP: its health, the models that answer, the layouts that are understood."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Health(Struct, frozen=True):
    """The answer of a probe that all is well."""

    status: Literal["live", "ready"]


class ModelDescription(Struct, frozen=True, kw_only=True):
    """A bundle's manifest, and what follows from it. Times in seconds; `fps` is the network's.

    decoding: the thresholds where nobody asks for others. look_ahead: frames. metrics: what the bundle measured.
    """

    name: str
    version: str
    digest: str
    description: str
    license: str
    research_only: bool
    layout: str
    dims: list[int]
    spaces: list[str]
    fps: float
    hop: float
    look_ahead: int
    algorithmic_latency: float
    classes: list[str]
    modes: list[Literal["online", "offline"]]
    decoding: dict[str, Any]
    unknown_below: float
    metrics: dict[str, Any]
    state_bytes_per_track: int


class ModelList(Struct, frozen=True):
    """Every model that answers."""

    models: list[ModelDescription]


class LayoutDescription(Struct, frozen=True, kw_only=True):
    """A joint layout: names in order, bones as (child, parent), each joint's twin, and the way to `body16`.

    to_body16: each joint of `body16` as [joint, weight] of this layout; none: missing. approximate: not all are exact.
    """

    name: str
    joints: list[str]
    bones: list[tuple[int, int]]
    mirror: list[int]
    approximate: bool
    to_body16: list[list[tuple[int, float]]]


class LayoutList(Struct, frozen=True):
    """Every layout that is understood."""

    layouts: list[LayoutDescription]
