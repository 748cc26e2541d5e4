"""The whole path from a video to events, beside the pose extractor alone on the same pictures.

Both take turns, round after round, and a ratio is taken within a round: wall clock, since the path works in two
processes and a thread at once, and to hide one's work behind another's is its point. The whole path is what a job does:
a process of its own decodes, extracts and tracks; this one turns poses into segment events with the model as they come.
Its start is not counted, as the extractor's loading is not: both clocks run from the first picture to the last.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from poseline.bundle import ModelBundle, find_bundle
from poseline.errors import InputError
from poseline.online import StreamLocalizer
from poseline.pose import PoseFrame
from poseline_service.engine import open_scorer
from poseline_video import MODEL
from poseline_video.extraction import COORDINATES, LAYOUT, ExtractionLimits, open_extraction
from poseline_video.extractor import MediaPipeExtractor
from poseline_video.media import Picture, open_file

ROUNDS = 5
TARGET = 0.9


def run(models: Path, model: str | None, json_file: Path | None, video: Path | None) -> None:
    """Raises InputError without a video."""
    if video is None:
        raise InputError("what is to be watched? --video FILE, with a person in it")
    bundle = ModelBundle.open(models / model) if model else find_bundle(models)
    pose = Path(os.environ.get("POSELINE_POSE", "pose")) / MODEL
    with open_file(video, ExtractionLimits()) as opened:
        pictures = list(opened.pictures())
    alone, whole = np.array([(_alone(pictures, pose), _whole(video, pose, bundle)) for _ in range(ROUNDS)]).T
    figures = {
        "video": video.name,
        "pictures": len(pictures),
        "rounds": ROUNDS,
        "extractor_fps": float(np.median(alone)),
        "whole_path_fps": float(np.median(whole)),
        "ratio": float(np.median(whole / alone)),
        "ratios": [float(one) for one in whole / alone],
        "target": TARGET,
    }
    table = Table("", "pictures a second", title=f"{video.name}, {len(pictures)} pictures")
    table.add_row("extractor alone", f"{figures['extractor_fps']:.1f}")
    table.add_row("decode, extract, track, localize", f"{figures['whole_path_fps']:.1f}")
    table.add_row("ratio (median over rounds)", f"{figures['ratio']:.2f}")
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def _alone(pictures: list[Picture], pose: Path) -> float:
    """Pictures a second, decoded before."""
    with MediaPipeExtractor(pose) as extractor:
        extractor.detect(pictures[0].rgb, pictures[0].t)
        begin = perf_counter()
        for picture in pictures[1:]:
            extractor.detect(picture.rgb, picture.t)
        return (len(pictures) - 1) / (perf_counter() - begin)


def _whole(video: Path, pose: Path, bundle: ModelBundle) -> float:
    """Pictures a second, from the first that is told to the end of the last event."""
    scorer = open_scorer(bundle, slots=8)
    streams: dict[str, StreamLocalizer] = {}
    with open_extraction(video, model=pose) as extraction:
        frames = iter(extraction)
        next(frames)
        begin, count = perf_counter(), 0
        for frame in frames:
            count += 1
            for person in frame.people:
                if person.id not in streams:
                    streams[person.id] = StreamLocalizer(
                        bundle.manifest, scorer, layout=LAYOUT, coordinates=COORDINATES
                    )
                streams[person.id].push(PoseFrame(frame.t, person.world[:, :3], person.world[:, 3].clip(0, 1)))
        for stream in streams.values():
            stream.finish()
        return count / (perf_counter() - begin)
