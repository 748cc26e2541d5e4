"""The one way from any joint layout to any other: a matrix.

`conversion(a, b)` finds every landmark of layout `b` among those of `a`, directly or as a weighted mean of others, and
answers with a matrix (V_b, V_a); what cannot be found is a row of zeros, marked missing. The layouts themselves, and which
landmark each of their names means, are in `layouts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from poseline.errors import LayoutMismatch, UnknownLayout
from poseline.layouts import LAYOUTS, SkeletonLayout

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

BODY16 = LAYOUTS["body16"]


@dataclass(frozen=True)
class Conversion:
    """How to get one layout's joints from another's: `target = weights @ source`.

    weights: (V_target, V_source), rows sum to 1, or to 0 where `missing`.
    missing: (V_target,) True where the source has nothing to offer.
    approximate: some joint is a mean of others or missing, so the result is a likeness.
    """

    source: SkeletonLayout
    target: SkeletonLayout
    weights: Floats
    missing: Flags
    approximate: bool


_ALSO = {"spine_mid": "spine", "spine_shoulder": "shoulder_center"}
"""Landmarks that are another one too: what is any point of the middle back or between the shoulders has its own height
with Kinect v2, and where that is asked for, other points are nearer to it."""

_STAND_INS: dict[str, tuple[tuple[str, ...], ...]] = {
    "pelvis": (("left_hip", "right_hip"),),
    "shoulder_center": (("left_shoulder", "right_shoulder"),),
    "spine": (("spine_navel", "spine_chest"), ("spine2",), ("pelvis", "shoulder_center")),
    "spine_mid": (("spine_navel",), ("spine1",), ("spine",)),
    "spine_shoulder": (("spine_chest",), ("spine3",), ("shoulder_center",)),
    "neck": (("shoulder_center", "head"),),
    "head": (("left_ear", "right_ear"), ("nose",), ("head_top", "upper_neck"), ("head_top", "face"),
             ("head_top", "neck"), ("head_top",)),
    "head_top": (("left_eye", "right_eye"), ("head",)),
    "face": (("nose",), ("upper_neck",), ("head",)),
    **{
        f"{side}_{landmark}": tuple(tuple(f"{side}_{part}" for part in parts) for parts in stand_ins)
        for side in ("left", "right")
        for landmark, stand_ins in {
            "hand": (("wrist", "index"),),
            "hand_tip": (("index",),),
            "foot": (("foot_index",), ("big_toe",)),
            "foot_index": (("big_toe",),),
            "big_toe": (("foot_index",),),
        }.items()
    },
}  # fmt: skip
"""Where a landmark is absent, the mean of others stands in: the first list that the source can fill wins. None is exact."""


def _landmarks(source: SkeletonLayout) -> dict[str, int]:
    """Where each landmark is that the layout has."""
    index = {source.landmark(joint): i for i, joint in enumerate(source.joints)}
    return {_ALSO[mark]: i for mark, i in index.items() if mark in _ALSO} | index


def _weights(landmark: str, source: dict[str, int], size: int, sought: frozenset[str]) -> Floats | None:
    """Row of weights for one landmark, None where the source cannot give it. sought: what it would stand in for."""
    if landmark in source:
        row = np.zeros(size, np.float32)
        row[source[landmark]] = 1
        return row
    sought |= {landmark}
    for parts in _STAND_INS.get(landmark, ()):
        rows = [None if part in sought else _weights(part, source, size, sought) for part in parts]
        found = [row for row in rows if row is not None]
        if len(found) == len(parts):
            return np.stack(found).mean(axis=0).astype(np.float32)
    return None


@cache
def _registered_conversion(source: str, target: str) -> Conversion:
    return _convert(LAYOUTS[source], LAYOUTS[target])


def _convert(source: SkeletonLayout, target: SkeletonLayout) -> Conversion:
    index = _landmarks(source)
    weights = np.zeros((len(target.joints), len(source.joints)), np.float32)
    missing = np.zeros(len(target.joints), np.bool_)
    exact = True
    for i, joint in enumerate(target.joints):
        landmark = target.landmark(joint)
        exact &= landmark in index
        row = _weights(landmark, index, len(source.joints), frozenset())
        if row is None:
            missing[i] = True
        else:
            weights[i] = row
    weights.setflags(write=False)
    missing.setflags(write=False)
    return Conversion(source, target, weights, missing, not exact)


def conversion(source: SkeletonLayout, target: SkeletonLayout) -> Conversion:
    """The matrix from `source` to `target`.

    Raises LayoutMismatch where fewer than half of the target's joints can be had: such a pose would be a guess.
    """
    if LAYOUTS.get(source.name) is source and LAYOUTS.get(target.name) is target:
        found = _registered_conversion(source.name, target.name)
    else:
        found = _convert(source, target)
    if found.missing.mean() > 0.5:
        lacking = ", ".join(target.joints[i] for i in np.flatnonzero(found.missing))
        raise LayoutMismatch(f"layout {source.name} lacks most joints of {target.name}: {lacking}", param="layout")
    return found


def layout(name: str) -> SkeletonLayout:
    """The registered layout of that name. Raises UnknownLayout."""
    try:
        return LAYOUTS[name]
    except KeyError:
        raise UnknownLayout(f"unknown layout {name!r}; known: {', '.join(LAYOUTS)}", param="layout") from None


def unknown_joints(source: SkeletonLayout) -> tuple[str, ...]:
    """Joints whose landmark nothing here knows: a custom layout's misspelt ones, and those that nobody else names."""
    return tuple(joint for joint in source.joints if source.landmark(joint) not in _known_landmarks())


@cache
def _known_landmarks() -> frozenset[str]:
    named = (one.landmark(joint) for one in LAYOUTS.values() for joint in one.joints)
    parts = (part for stand_ins in _STAND_INS.values() for parts in stand_ins for part in parts)
    return frozenset((*named, *_STAND_INS, *parts))
