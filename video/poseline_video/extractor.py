"""The seam: one picture → the people in it. MediaPipe's pose landmarker is what stands behind it, in VIDEO mode.

Deterministic: the same pictures at the same times give the same numbers, bit for bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

os.environ.setdefault("GLOG_minloglevel", "3")  # read once, when the library is loaded

import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import PoseLandmarker, PoseLandmarkerOptions, RunningMode
from numpy.typing import NDArray

Landmarks = NDArray[np.float32]


@dataclass(frozen=True)
class Detected:
    """One person, as blazepose33, each (33, 4), the last number visibility.

    image: x, y as shares of width and height, y down; z on x' scale, no metres. world: metres, the origin between the
    hips, x to the picture's right, y down, z away from the camera.
    """

    image: Landmarks
    world: Landmarks


class PoseExtractor(Protocol):
    """What finds people. One extractor sees one video, in order."""

    def detect(self, picture: NDArray[np.uint8], t: float) -> list[Detected]:
        """picture (H, W, 3) RGB, contiguous; t in seconds, rising."""
        ...


class MediaPipeExtractor:
    """people: at most so many are looked for; 2 and more cost extra, and find less of each (docs/video.md)."""

    def __init__(self, model: Path, people: int = 1) -> None:
        options = PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)), running_mode=RunningMode.VIDEO, num_poses=people
        )
        self._landmarker = PoseLandmarker.create_from_options(options)
        self._last = -1

    def __enter__(self) -> MediaPipeExtractor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()

    def detect(self, picture: NDArray[np.uint8], t: float) -> list[Detected]:
        self._last = max(self._last + 1, round(t * 1000))  # whole milliseconds that rise strictly
        found = self._landmarker.detect_for_video(Image(image_format=ImageFormat.SRGB, data=picture), self._last)
        return [
            Detected(_array(image), _array(world))
            for image, world in zip(found.pose_landmarks, found.pose_world_landmarks, strict=True)
        ]


def _array(landmarks: list) -> Landmarks:
    return np.array([(one.x, one.y, one.z, one.visibility) for one in landmarks], np.float32)
