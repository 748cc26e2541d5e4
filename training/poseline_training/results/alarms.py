"""When to tell of a start, at the first score that is high enough or once evidence has gathered: delay and false alarms.

The network answers once; every threshold then is a slot of one decoder, which is fed the same answers. What a higher
`min_score` costs besides, finals, is told too; evidence leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from poseline.decoding import DecodingOptions
from poseline.enrolment import Vocabulary
from poseline.formats.corpus import FPS, LabelledSequence
from poseline.manifest import ModelManifest
from poseline.resampling import GridFrame
from poseline.segments import SegmentEvent
from poseline.skeleton import Floats
from poseline.spans import SpanDecoder
from poseline.stepping import StepScorer
from poseline_training.metrics.alarms import Alarm, alarm_figures
from poseline_training.metrics.segmental import segmental_f1
from poseline_training.results.settings import ResultsSettings
from poseline_training.robustness.figures import spans_with_scores, stream_side_by_side
from poseline_training.streaming import StreamedSequence

FIRST, GATHERED = "first crossing of `min_score`", "gathered `evidence`, nats"
_RULES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    FIRST: ("min_score", (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
    GATHERED: ("evidence", (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)),
}
KINDS = {True: "real", False: "stitched"}


def measure(
    settings: ResultsSettings,
    manifest: ModelManifest,
    scorer: StepScorer,
    sets: Mapping[str, Sequence[LabelledSequence]],
) -> dict[str, Any]:
    """Rule → threshold → `real` and `stitched` → figures of all their recordings together. sets: by corpus."""
    points = [(rule, option, one) for rule, (option, many) in _RULES.items() for one in many]
    shipped = manifest.decoding.model_dump()
    options = [DecodingOptions.model_validate(shipped | {option: one}) for _, option, one in points]
    kinds: dict[str, list[list[StreamedSequence]]] = {}
    for one in settings.sets:
        streamed = stream_side_by_side(manifest, scorer, sets[one.corpus], settings.data.label_map)
        spans = spans_with_scores(manifest, scorer, sets[one.corpus])
        of_kind = kinds.setdefault(KINDS[one.real], [[] for _ in points])
        for recording, some in zip(streamed, spans, strict=True):
            for told, events in zip(of_kind, events_by(manifest, options, some), strict=True):
                told.append(replace(recording, events=tuple(events)))
    found: dict[str, Any] = {}
    for n, (rule, _, threshold) in enumerate(points):
        found.setdefault(rule, {})[f"{threshold:g}"] = {kind: figures(told[n]) for kind, told in kinds.items()}
    return found


def events_by(
    manifest: ModelManifest, options: Sequence[DecodingOptions], spans: Sequence[tuple[list[GridFrame], Floats, Floats]]
) -> list[list[SegmentEvent]]:
    """What is said of one recording by each of the options; spans: as `spans_with_scores` gives them."""
    slots = np.arange(len(options))
    decoder = SpanDecoder(Vocabulary(manifest), len(options), manifest.look_ahead)
    events: list[list[SegmentEvent]] = [[] for _ in options]
    for slot, one in enumerate(options):
        decoder.open(slot, one)
    for span, scores, boundaries in spans:
        last = len(span) + manifest.look_ahead
        for slot in range(len(options)):
            decoder.begin(slot, span[0].t)
        for frame, *answer in zip(span, scores, boundaries, strict=False):
            step = decoder.push(slots, [frame.t] * len(slots), *(np.tile(one, (len(slots), 1)) for one in answer))
            for row, event in step.events:
                events[row].append(event)
        held = scores[len(span) : last], boundaries[len(span) : last]
        for slot, told in enumerate(events):
            told += [event for _, event in decoder.finish(slot, held, "close").events]
    return events


def figures(streamed: Sequence[StreamedSequence]) -> dict[str, float]:
    """`alarm_figures` of these recordings, and `f1_50` of their finals."""
    hours = sum(int((one.labels >= 0).sum()) for one in streamed) / FPS / 3600
    truths = [sorted(one.truths()) for one in streamed]
    f1 = segmental_f1([one.detections() for one in streamed], [one.truths() for one in streamed], 0.5)
    return alarm_figures([alarms_of(one) for one in streamed], truths, hours) | {"f1_50": f1}


def alarms_of(one: StreamedSequence) -> list[Alarm]:
    """Every start that was told, but for those in stretches that the annotators left out."""
    back = {event.key for event in one.events if event.phase == "retracted"}
    started = [event for event in one.events if event.phase == "started"]
    counted = [event for event in started if not one.ignored(event.decided, event.decided)]
    return [(event.decided, event.label_id, event.key in back) for event in counted]
