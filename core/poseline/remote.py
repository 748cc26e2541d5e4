"""Finished recordings through a server, for plain programs: by a stream (`play`, `stream_recording`), or by one HTTP request
(`localize`). Who goes on live speaks to `client.StreamClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec
import numpy as np

from poseline.client import ConnectionFailed, StreamClient, address, remote_error
from poseline.codec import JSON, MSGPACK, Codec
from poseline.credentials import Credential, bearer_of
from poseline.decoding import DecodingOptions
from poseline.errors import InputError
from poseline.keypoints import pack_keypoints, write_keypoints, write_tracks
from poseline.pose import Coordinates, PoseSequence
from poseline.protocol import (
    CoordinatesSpec,
    CustomLayout,
    EnrolledClassInfo,
    EnrolledClassList,
    EnrolRequest,
    ExampleSpec,
    Frame,
    LocalizeOptions,
    LocalizeRequest,
    LocalizeResponse,
    ModelInfo,
    Person,
    ServerMessage,
    StreamOptions,
)
from poseline.prototypes import Shown

T = TypeVar("T")
_TIMEOUT = 120.0
"""Seconds for one HTTP request: an hour of poses takes about as long."""


def describe(coordinates: Coordinates) -> CoordinatesSpec:
    """The domain's coordinates in the wire's words."""
    return CoordinatesSpec(
        coordinates.space,
        coordinates.dims,
        coordinates.y_axis,
        coordinates.facing,
        coordinates.mirrored,
        coordinates.image_size,
    )


def layout_spec(poses: PoseSequence) -> str | CustomLayout:
    return CustomLayout(list(poses.layout.joints)) if poses.layout.name == "custom" else poses.layout.name


def timeline(people: Mapping[str, PoseSequence], *, packed: bool = False) -> list[Frame]:
    """Everybody's poses as frames in rising time; packed, they are the same numbers in fewer bytes."""
    at: dict[float, list[Person]] = {}
    for name, poses in people.items():
        keypoints = (pack_keypoints if packed else write_keypoints)(poses.joints, poses.confidence)
        for t, kp in zip(poses.timestamps, keypoints, strict=True):
            at.setdefault(float(t), []).append(Person(id=name, kp=kp))
    return [Frame(t, at[t]) for t in sorted(at)]


def request_for(
    people: Mapping[str, PoseSequence], options: LocalizeOptions | None = None, codec: Codec = JSON
) -> LocalizeRequest:
    """The REST request for one recording of people who share one clock, to be sent in that encoding.

    Raises InputError where they do not.
    """
    first = next(iter(people.values()))
    if any(not np.array_equal(one.timestamps, first.timestamps) for one in people.values()):
        raise InputError("the people of one request must share their timestamps")
    return LocalizeRequest(
        tracks=write_tracks(people, codec),
        layout=layout_spec(first),
        coordinates=describe(first.coordinates),
        timestamps=[float(t) for t in first.timestamps],
        options=options or LocalizeOptions(),
    )


def localize(url: str, request: LocalizeRequest, codec: Codec = JSON, key: str | None = None) -> LocalizeResponse:
    """`POST` a recording, in the encoding for which it was made. key: for a server that asks for one. Raises RemoteError,
    ConnectionFailed."""
    url = address(url, "http", "/v1/localize")
    headers = {"Content-Type": codec.media_type, "Accept": codec.media_type} | bearer_of(key)
    try:
        answer = httpx.post(url, content=codec.encode(request), headers=headers, timeout=_TIMEOUT)
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"{url}: {error}") from None
    if answer.status_code != 200:
        raise remote_error(answer.content, answer.status_code, url)
    return codec.decode_response(answer.content)


@dataclass(frozen=True)
class RemoteModel:
    """A server's model: which it is, its thresholds where nobody asks for others, frames a second of its network."""

    info: ModelInfo
    thresholds: DecodingOptions
    fps: float


def remote_model(url: str, model: str = "default", key: str | None = None) -> RemoteModel:
    """What a server says of a model; `url` and `key` as for `localize`. Raises RemoteError, ConnectionFailed."""
    url = _model_url(url, model)
    answer = _asked("GET", url, key)
    try:
        said = answer.json()
        thresholds = DecodingOptions.model_validate(said["decoding"])
        return RemoteModel(msgspec.convert(said, ModelInfo), thresholds, float(said["fps"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionFailed(f"{url} does not describe a model: {error}") from None


class RemoteClasses:
    """The classes that are enrolled in a server's model; `url` and `key` as for `localize`. Everything raises RemoteError,
    ConnectionFailed."""

    def __init__(self, url: str, model: str = "default", key: str | None = None) -> None:
        self._url, self._key = f"{_model_url(url, model)}/prototypes", key

    def enroll(self, name: str, examples: Sequence[Shown | ExampleSpec]) -> EnrolledClassInfo:
        """A class from recordings, and from stretches of live sessions that ask to `remember`."""
        specs = [one if isinstance(one, ExampleSpec) else _spec(one) for one in examples]
        answer = _asked("POST", self._url, self._key, MSGPACK.encode(EnrolRequest(name=name, examples=specs)))
        return _read(answer, EnrolledClassInfo)

    def listed(self) -> list[EnrolledClassInfo]:
        return _read(_asked("GET", self._url, self._key), EnrolledClassList).prototypes

    def remove(self, name: str) -> None:
        _asked("DELETE", f"{self._url}/{quote(name, safe='')}", self._key)


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise ConnectionFailed(f"{answer.url} answered with something else: {error}") from None


def _spec(one: Shown) -> ExampleSpec:
    return ExampleSpec(recording=request_for({"1": one.poses}, codec=MSGPACK), start=one.start, end=one.end)


def _model_url(url: str, model: str) -> str:
    whole = address(url, "http", "/v1/localize")
    return f"{whole.removesuffix('/localize').removesuffix('/v1')}/v1/models/{quote(model, safe='')}"


def _asked(method: str, url: str, key: str | None, content: bytes | None = None) -> httpx.Response:
    """An answer that is none of refusal."""
    headers = bearer_of(key) | ({} if content is None else {"Content-Type": MSGPACK.media_type})
    try:
        answer = httpx.request(method, url, content=content, headers=headers, timeout=_TIMEOUT)
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"{url}: {error}") from None
    if not answer.is_success:
        raise remote_error(answer.content, answer.status_code, url)
    return answer


async def play(
    client: StreamClient, frames: Sequence[Frame], *, chunk: int = 1, speed: float | None = None
) -> AsyncGenerator[ServerMessage]:
    """Send a recording in messages of `chunk` frames and give what is heard, until the session is closed.

    speed: 1 is as it happened, 2 twice as fast, None as fast as the server takes it.
    """
    sending = asyncio.create_task(_send_all(client, frames, chunk, speed))
    try:
        async for message in client:
            yield message
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send_all(client: StreamClient, frames: Sequence[Frame], chunk: int, speed: float | None) -> None:
    begin = asyncio.get_running_loop().time()
    for i in range(0, len(frames), chunk):
        part = frames[i : i + chunk]
        if speed is not None:  # a message leaves when its newest frame has been seen
            seen = begin + (part[-1].t - frames[0].t) / speed
            await asyncio.sleep(seen - asyncio.get_running_loop().time())
        await client.send(part)
    await client.close()


def stream_recording(
    url: str,
    people: Mapping[str, PoseSequence],
    *,
    options: StreamOptions | None = None,
    model: str = "default",
    chunk: int = 1,
    speed: float | None = None,
    codec: Codec = MSGPACK,
    credential: Credential | None = None,
    heard: Callable[[ServerMessage], None] = lambda message: None,
) -> list[ServerMessage]:
    """A recording through a stream, for programs without an event loop: every message, each also told to `heard`."""
    first = next(iter(people.values()))
    client = StreamClient(
        url,
        layout=layout_spec(first),
        coordinates=describe(first.coordinates),
        options=options,
        model=model,
        codec=codec,
        credential=credential,
    )
    return asyncio.run(_collect(client, timeline(people, packed=not codec.text), chunk, speed, heard))


async def _collect(
    client: StreamClient,
    frames: Sequence[Frame],
    chunk: int,
    speed: float | None,
    heard: Callable[[ServerMessage], None],
) -> list[ServerMessage]:
    messages: list[ServerMessage] = []
    async with client:
        messages.append(client.started)
        heard(client.started)
        async for message in play(client, frames, chunk=chunk, speed=speed):
            messages.append(message)
            heard(message)
    return messages
