"""Classes that no model of ours knows: from three clips over the API, while a stream runs; from one repetition of a video,
of which the others are then counted. Real motion."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from poseline.bundle import ModelBundle
from poseline.client import StreamClient
from poseline.codec import encode
from poseline.formats.corpus import LabelledSequence, read_corpus
from poseline.online import StreamLocalizer
from poseline.pose import PoseSequence
from poseline.protocol import EnrolRequest, ExampleSpec, Flushed, Frame, SegmentFinal
from poseline.prototypes import Shown, folder_of, keep, learn, vocabulary_of
from poseline.remote import layout_spec, request_for, timeline
from poseline_service.engine import open_scorer
from poseline_service.sources import POSE_MODEL
from poseline_video.extraction import extract_people
from servers import ServerProcess

PROJECT = Path(__file__).parents[2]
POSE = PROJECT / "pose" / POSE_MODEL
ENROLLED = shutil.ignore_patterns("enrolled")
CLASS = "raise_up_both_hands"
SHOWN, LOOKED_AT = 3, 4


def performances(data: Path) -> list[PoseSequence]:
    """Clips of the class, each in another style."""
    read: list[LabelledSequence] = read_corpus(data / "bandai_namco" / "trimmed_train_dataset2.npz")
    found = {one.style: one.poses for one in read if one.classes[int(one.labels.max())] == CLASS}
    return [found[style] for style in sorted(found)][: SHOWN + LOOKED_AT]


async def labels(client: StreamClient, poses: PoseSequence, begin: float) -> list[str]:
    """Of what is decided of a clip, all of which has been scored."""
    frames = [Frame(one.t + begin, one.people) for one in timeline({"p1": poses})]
    for first in range(0, len(frames), 30):
        await client.send(frames[first : first + 30])
    await client.flush()
    found: list[str] = []
    while not isinstance(message := await client.receive(), Flushed):
        assert message is not None
        found += [message.label] if isinstance(message, SegmentFinal) else []
    return found


async def test_an_unknown_class_is_enrolled_and_found_in_a_stream_that_runs(
    serve: Callable[..., ServerProcess], tmp_path: Path, data: Path
) -> None:
    server = serve(shutil.copytree(PROJECT / "models", tmp_path / "models", ignore=ENROLLED)).ready()
    clips = performances(data)
    shown, looked_at = clips[:SHOWN], clips[SHOWN:]
    starts = 10.0 * np.arange(1, 2 * LOOKED_AT + 1)  # beyond the gap that begins somebody anew
    async with StreamClient(server.ws, layout=layout_spec(clips[0]), coordinates=clips[0].coordinates) as client:
        assert CLASS not in client.started.classes
        before = [await labels(client, one, float(t)) for one, t in zip(looked_at, starts, strict=False)]
        assert not any(CLASS in one for one in before)
        examples = [ExampleSpec(recording=request_for({"p1": one})) for one in shown]
        answer = await asyncio.to_thread(
            httpx.post,
            f"{server.url}/v1/models/default/prototypes",
            content=encode(EnrolRequest(name=CLASS, examples=examples)),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        assert answer.status_code == 201, answer.text
        after = [await labels(client, one, float(t)) for one, t in zip(looked_at, starts[LOOKED_AT:], strict=True)]
    assert sum(CLASS in one for one in after) >= LOOKED_AT - 1, after


@pytest.mark.slow
@pytest.mark.skipif(not POSE.is_file(), reason="no pose model: make it with poseline pose-model build")
@pytest.mark.parametrize("model", ["poseline-body16-3", "poseline-exercise16-1"])
def test_one_raise_of_the_arms_is_shown_and_all_four_are_counted(tmp_path: Path, data: Path, model: str) -> None:
    bundle = ModelBundle.open(shutil.copytree(PROJECT / "models" / model, tmp_path / model, ignore=ENROLLED))
    video = extract_people(data / "video" / "lateral_raise_single.mp4", model=POSE)
    [poses] = video.people.values()
    first = Shown(poses, 1.4, 4.4)  # the wrists leave the hips and are back
    keep(folder_of(bundle), learn(bundle, open_scorer(bundle, slots=1), "lateral_raise", [first]))
    with StreamLocalizer(
        bundle.manifest,
        open_scorer(bundle, slots=1),
        layout=poses.layout,
        coordinates=poses.coordinates,
        vocabulary=vocabulary_of(bundle, pytest.fail),
    ) as stream:
        events = [one for frame in poses.frames() for one in stream.push(frame)] + stream.finish()
    raises = [one for one in events if one.phase == "final" and one.label == "lateral_raise"]
    assert sum(one.repetitions or 1 for one in raises) == 4
