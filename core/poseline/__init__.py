"""Poseline: what a person is doing, and exactly when it starts and ends, while it happens."""

from poseline.bundle import ModelBundle, find_bundle
from poseline.decoding import DecodingOptions, SegmentDecoder
from poseline.errors import PoselineError
from poseline.manifest import ModelManifest
from poseline.online import OnlineLocalizer, StreamLocalizer, localize
from poseline.pose import Coordinates, PoseFrame, PoseSequence
from poseline.segments import Segment, SegmentEvent, temporal_iou
from poseline.skeleton import SkeletonLayout, conversion, layout
from poseline.stepping import StepScorer

__all__ = [
    "Coordinates",
    "DecodingOptions",
    "ModelBundle",
    "ModelManifest",
    "OnlineLocalizer",
    "PoseFrame",
    "PoseSequence",
    "PoselineError",
    "Segment",
    "SegmentDecoder",
    "SegmentEvent",
    "SkeletonLayout",
    "StepScorer",
    "StreamLocalizer",
    "conversion",
    "find_bundle",
    "layout",
    "localize",
    "temporal_iou",
]
