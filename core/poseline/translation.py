"""From the wire's words to the domain's, and back: layouts, coordinates, options, segments, models.

Structs of `protocol` enter; what leaves is checked, or an InputError says which field was wrong.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import ValidationError

from poseline.decoding import DecodingOptions
from poseline.enrolment import EnrolledClass, Vocabulary
from poseline.errors import InputError, LayoutMismatch, MalformedMessage, UnsupportedOption
from poseline.layouts import custom_layout
from poseline.manifest import ModelManifest
from poseline.pose import Coordinates
from poseline.protocol import CoordinatesSpec, CustomLayout, DecodingChoice, EnrolledClassInfo, ModelInfo, StreamOptions
from poseline.segments import SegmentEvent
from poseline.skeleton import SkeletonLayout, layout

MAX_JOINTS = 256
"""Joints that a custom layout may name: whole-body sets have 133."""
UPDATE_SECONDS = 0.5
"""Media time between two `segment.updated` of a segment under `partials: all`."""


def layout_of(spec: str | CustomLayout) -> SkeletonLayout:
    """Raises UnknownLayout, LayoutMismatch."""
    if isinstance(spec, str):
        return layout(spec)
    if not 0 < len(spec.joints) <= MAX_JOINTS:
        what = f"a custom layout names {len(spec.joints)} joints, expected 1 to {MAX_JOINTS}"
        raise LayoutMismatch(what, param="layout")
    return custom_layout(spec.joints)


def coordinates_of(spec: CoordinatesSpec) -> Coordinates:
    """Raises UnitUnknown, ShapeMismatch."""
    y_axis = spec.y_axis or ("down" if spec.space in ("pixel", "normalized") else "up")
    return Coordinates(
        spec.space,  # pyright: ignore[reportArgumentType]
        spec.dims,
        y_axis,
        spec.facing,
        spec.mirrored,
        spec.image_size,
    )


_DECODING = ("min_score", "off_score", "min_duration", "off_hang", "max_duration")
MAX_GAP_RESET = 10.0
"""Seconds: a longer gap would be filled with more invented frames than seen ones."""


def decoding_options(choice: DecodingChoice, defaults: DecodingOptions) -> DecodingOptions:
    """The manifest's options with the caller's on top; a caller's score to open or close at holds for every class, also for
    those that have thresholds of their own. Raises InputError."""
    if not 0 < choice.gap_reset <= MAX_GAP_RESET:
        what = f"gap_reset is {choice.gap_reset}, expected more than 0 and at most {MAX_GAP_RESET} seconds"
        raise InputError(what, param="options.gap_reset")
    given: dict[str, Any] = {name: value for name in _DECODING if (value := getattr(choice, name)) is not None}
    if "min_score" in given or "off_score" in given:
        given["thresholds"] = {}
    given["updates"] = 0.0
    if isinstance(choice, StreamOptions):
        if not choice.scores_hz >= 0:
            raise InputError(f"scores_hz is {choice.scores_hz}, expected 0 or more", param="options.scores_hz")
        given["updates"] = UPDATE_SECONDS if choice.partials == "all" else 0.0
        if choice.evidence is not None:
            given["evidence"] = choice.evidence
    try:
        return DecodingOptions.model_validate(defaults.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["options", *map(str, first["loc"])])
        raise InputError(f"{name}: {first['msg']}", param=name) from None


CHANGEABLE = (*_DECODING, "evidence", "classes", "partials", "scores_hz", "remember")
"""Options that a running session may change; the others say what its frames are, and what became of those that came."""


def changed_options(choice: StreamOptions, changes: Any) -> StreamOptions:
    """A session's options with some of them changed, as a client says it; a null is the model's own again.

    Raises UnsupportedOption, MalformedMessage; values out of range are `decoding_options`' affair, as at the start.
    """
    if not isinstance(changes, dict):
        raise MalformedMessage("options are missing, or no object", param="options", code="invalid_message")
    given = cast(dict[str, Any], changes)
    for name in given:
        if name not in CHANGEABLE:
            what = f"{name!r} cannot be changed while a session runs; {', '.join(CHANGEABLE)} can"
            raise UnsupportedOption(what, param=f"options.{name}")
    try:
        return msgspec.convert(msgspec.to_builtins(choice) | given, StreamOptions)
    except msgspec.ValidationError as error:
        what, _, path = str(error).rstrip("`").partition(" - at `$")
        raise MalformedMessage(f"options{path}: {what}", param=f"options{path}", code="invalid_message") from None


def rounded(event: SegmentEvent) -> tuple[float, float, float]:
    """Start, end (to microseconds) and score (four digits) of a segment, as every answer gives them."""
    return round(event.start, 6), round(event.end, 6), round(event.score, 4)


def counted(event: SegmentEvent) -> int | UnsetType:
    """How often a segment's action was done, as every answer gives it: left out where nobody counted."""
    return UNSET if event.repetitions is None else event.repetitions


def model_info(manifest: ModelManifest, digest: str) -> ModelInfo:
    return ModelInfo(manifest.name, manifest.version, digest, manifest.layout, manifest.license, manifest.research_only)


def enrolled_info(vocabulary: Vocabulary, one: EnrolledClass) -> EnrolledClassInfo:
    return EnrolledClassInfo(one.name, vocabulary.find(one.name) or 0, one.examples, one.frames, one.created)
