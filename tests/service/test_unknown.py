"""A server whose model may answer "unknown": streams and recordings are told so, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from msgspec import UNSET

from made_up import NATIVE, frames_of, recording
from poseline import protocol
from poseline.client import StreamClient
from poseline.codec import CODECS, Codec
from poseline.protocol import LocalizeOptions, LocalizeResponse, SegmentFinal, StreamOptions
from poseline.remote import localize, play, request_for
from servers import ServerProcess
from tiny_bundle import write_bundle

BELOW = 0.9
FRAMES = 200


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The network of `server`, with a threshold."""
    folder = tmp_path_factory.mktemp("doubtful")
    write_bundle(folder, unknown_below=BELOW)
    process = ServerProcess(folder)
    try:
        yield process.ready()
    finally:
        assert "Traceback" not in process.stop()


async def heard(server: ServerProcess, codec: Codec) -> list[protocol.ServerMessage]:
    async with StreamClient(server.ws, coordinates=NATIVE, options=StreamOptions(scores_hz=30), codec=codec) as client:
        return [client.started, *[message async for message in play(client, frames_of(5, FRAMES))]]


def asked(server: ServerProcess) -> LocalizeResponse:
    options = LocalizeOptions(returns=["segments", "scores"], frame_scores_hz=30)
    return localize(server.url, request_for({"p1": recording(5, FRAMES)}, options))


def scores_of(messages: list[protocol.ServerMessage]) -> list[protocol.Scores]:
    return [one for one in messages if isinstance(one, protocol.Scores)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_a_stream_is_told_where_no_class_is_sure(
    doubtful: ServerProcess, server: ServerProcess, codec: Codec
) -> None:
    messages, plain = await heard(doubtful, codec), await heard(server, codec)
    assert isinstance(messages[0], protocol.SessionStarted)
    assert messages[0].unknown_below == BELOW
    scores = scores_of(messages)
    assert len(scores) == FRAMES
    assert [one.unknown for one in scores] == [True if one.top[0][1] < BELOW else UNSET for one in scores]
    assert 20 < sum(bool(one.unknown) for one in scores) < FRAMES - 20

    assert all(one.unknown is UNSET for one in scores_of(plain))
    assert [(one.t, one.top) for one in scores] == [(one.t, one.top) for one in scores_of(plain)]
    ends = [[(one.label, one.start, one.end) for one in all_of if isinstance(one, SegmentFinal)]
            for all_of in (messages, plain)]  # fmt: skip
    assert ends[0] == ends[1] != []


def test_a_recording_is_told_the_same(doubtful: ServerProcess, server: ServerProcess) -> None:
    answer, plain = asked(doubtful), asked(server)
    assert isinstance(answer.scores, list)
    assert isinstance(plain.scores, list)
    (scores,), (others,) = answer.scores, plain.scores
    expected = [top[0][1] < BELOW for top in scores.top]
    assert scores.unknown == expected
    assert set(expected) == {True, False}
    assert others.unknown is UNSET
    assert (scores.t, scores.top, answer.segments) == (others.t, others.top, plain.segments)


def test_the_threshold_is_the_models(doubtful: ServerProcess, server: ServerProcess) -> None:
    thresholds = [httpx.get(one.url + "/v1/models").json()["models"][0]["unknown_below"] for one in (doubtful, server)]
    assert thresholds == [BELOW, 0.0]
