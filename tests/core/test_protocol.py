"""The wire: round trips, and every way in which a message can be wrong."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from poseline import protocol
from poseline.codec import CODECS, JSON, MSGPACK, Codec, decode_request, encode, schemas
from poseline.decoding import DecodingOptions, Thresholds
from poseline.errors import (
    BadConfidence,
    BadNumber,
    BadTimestamps,
    InputError,
    LayoutMismatch,
    MalformedMessage,
    PoselineError,
    ShapeMismatch,
    TooShort,
    UnitUnknown,
    UnknownLayout,
    UnknownMessage,
)
from poseline.keypoints import pack_keypoints, read_keypoints, read_tracks, write_keypoints
from poseline.protocol import (
    CoordinatesSpec,
    CustomLayout,
    Frame,
    Frames,
    LocalizeRequest,
    Person,
    StreamOptions,
    TrackSpec,
)
from poseline.skeleton import BODY16
from poseline.translation import UPDATE_SECONDS, coordinates_of, decoding_options, layout_of

numbers = st.floats(-1e6, 1e6, allow_nan=False)
joints = st.none() | st.lists(numbers, min_size=3, max_size=4)
frames = st.builds(
    Frame,
    numbers,
    st.lists(
        st.builds(Person, id=st.none() | st.text(), kp=st.binary(max_size=8) | st.lists(joints, max_size=4)), max_size=3
    ),
)
client_messages = st.one_of(
    st.builds(Frames, st.integers(0, 2**53), st.lists(frames, max_size=3)),
    st.builds(protocol.Flush, st.none() | st.text()),
    st.builds(protocol.Keepalive),
    st.builds(protocol.SessionClose),
    st.builds(
        protocol.SessionStart,
        layout=st.text() | st.builds(CustomLayout, st.lists(st.text(), max_size=3)),
        options=st.builds(StreamOptions, min_score=st.none() | numbers, classes=st.none() | st.lists(st.text())),
    ),
)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(message=client_messages)
def test_client_messages_survive_the_wire(codec: Codec, message: protocol.ClientMessage) -> None:
    assert codec.decode_client(codec.encode(message)) == message


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(
    seq=st.integers(0, 2**53),
    t=numbers,
    top=st.lists(st.tuples(st.integers(0, 99), numbers), max_size=5),
    unknown=st.sampled_from([True, UNSET]),
)
def test_server_messages_survive_the_wire(
    codec: Codec, seq: int, t: float, top: list[tuple[int, float]], unknown: bool | UnsetType
) -> None:
    message = protocol.Scores(seq=seq, session_id="s", t=t, track_id="p", top=top, unknown=unknown)
    assert codec.decode_server(codec.encode(message)) == message
    assert (b"unknown" in codec.encode(message)) == bool(unknown)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@given(data=st.binary(max_size=60))
def test_no_bytes_raise_anything_but_an_error_of_ours(codec: Codec, data: bytes) -> None:
    with suppress(PoselineError):
        codec.decode_client(data)


@given(client_messages, st.data())
def test_a_broken_binary_message_raises_nothing_but_an_error_of_ours(
    message: protocol.ClientMessage, data: st.DataObject
) -> None:
    whole = bytearray(MSGPACK.encode(message))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    with suppress(PoselineError):
        MSGPACK.decode_client(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@pytest.mark.parametrize("data", [b"", b"\xc1", MSGPACK.encode(protocol.Flush("p1"))[:-1]])
def test_a_broken_binary_message_has_its_own_code(data: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        MSGPACK.decode_client(data)
    assert caught.value.code == "invalid_msgpack"


def test_packed_keypoints_are_bytes_in_one_encoding_and_base64_in_the_other() -> None:
    message = Frames(0, [Frame(0.0, [Person(id="p1", kp=bytes(range(8)))])])
    assert bytes(range(8)) in MSGPACK.encode(message)
    assert b'"kp":"AAECAwQFBgc="' in JSON.encode(message)
    assert JSON.decode_client(JSON.encode(message)) == message


def test_unset_fields_stay_off_the_wire() -> None:
    assert b"count" not in encode(protocol.Warn(code="x", detail="y"))


def test_unknown_fields_are_ignored() -> None:
    message = JSON.decode_client(b'{"type":"flush","colour":"green","nested":{"a":[1,2]}}')
    assert message == protocol.Flush()


def test_a_client_ignores_message_types_from_the_future() -> None:
    assert JSON.decode_server(b'{"type":"segment.sung","seq":1}') is None


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("{", MalformedMessage, "invalid_json"),
        ("", MalformedMessage, "invalid_json"),
        ("[]", MalformedMessage, "invalid_message"),
        ("{}", MalformedMessage, "invalid_message"),
        ('{"type":"frames","seq":"0","frames":[]}', MalformedMessage, "invalid_message"),
        ('{"type":"nonsense"}', UnknownMessage, "unknown_type"),
        ('{"type":"frames","seq":0,"frames":[{"t":NaN,"people":[]}]}', BadNumber, "invalid_number"),
        ('{"type":"frames","seq":0,"frames":[{"t":-Infinity,"people":[]}]}', BadNumber, "invalid_number"),
        ('{"type":"frames","seq":0,"frames":[{"t":1e999,"people":[]}]}', BadNumber, "invalid_number"),
        (
            '{"type":"frames","seq":0,"frames":[{"t":0,"people":[{"id":"p","kp":[[nan]]}]}]}',
            BadNumber,
            "invalid_number",
        ),
        ('{"type":"flush","extra":' + "[" * 100_000 + "]" * 100_000 + "}", MalformedMessage, "invalid_json"),
    ],
)
def test_bad_text_is_told_apart(text: str, kind: type[PoselineError], code: str) -> None:
    with pytest.raises(kind) as caught:
        JSON.decode_client(text.encode())
    assert caught.value.code == code


def test_a_word_like_nan_in_a_string_is_no_number() -> None:
    with pytest.raises(MalformedMessage, match="malformed"):
        JSON.decode_client(b'{"type":"flush","track_id":"nan" x}')


def test_the_message_says_where() -> None:
    with pytest.raises(MalformedMessage, match="Expected `float`") as caught:
        JSON.decode_client(b'{"type":"frames","seq":0,"frames":[{"t":0,"people":[{"id":"p","kp":[["x"]]}]}]}')
    assert caught.value.param == "frames[0].people[0].kp[0][0]"


# --- keypoints ---------------------------------------------------------------------------------------------------


def pose(joint: Any = (1.0, 2.0, 3.0)) -> list[Any]:
    return [list(joint) for _ in BODY16.joints]


def where(i: int) -> str:
    return f" (track p, frame {i})"


def test_keypoints_with_and_without_confidence() -> None:
    found = read_keypoints([pose(), pose()], BODY16, 3, where)
    assert found.shape == (2, 16, 4)
    assert (found[..., 3] == 1).all()
    found = read_keypoints([pose((1, 2, 3, 0.5))], BODY16, 3, where)
    assert found[0, 0].tolist() == [1, 2, 3, 0.5]


def test_null_is_missing() -> None:
    kp = pose()
    kp[3] = None
    kp[4] = [1.0, 2.0, 3.0, 0.25]
    found = read_keypoints([kp], BODY16, 3, where)
    assert found[0, 2:5, 3].tolist() == [1, 0, 0.25]
    assert not found[0, 3].any()


@pytest.mark.parametrize(
    ("kp", "kind", "match"),
    [
        (pose()[:-1], ShapeMismatch, r"joint axis has 15 entries, layout body16 has 16 \(track p1, frame 42\)"),
        ([*pose(), [0.0, 0.0, 0.0]], ShapeMismatch, "joint axis has 17 entries"),
        ([[0.0, 0.0], *pose()[1:]], ShapeMismatch, r"joint pelvis has 2 numbers, expected 3, or 4 .*frame 42"),
        (pose((1.0,)), ShapeMismatch, "joint pelvis has 1 numbers"),
        (pose((1, 2, 3, 1.5)), BadConfidence, r"outside 0\.\.1 \(track p1"),
        (pose((1, 2, 3, -0.1)), BadConfidence, "outside"),
        (pose((1e39, 0, 0)), BadNumber, "not a finite number"),
        (pose((math.nan, 0, 0)), BadNumber, "not a finite number"),
    ],
)
def test_bad_keypoints_say_what_and_where(kp: list[Any], kind: type[PoselineError], match: str) -> None:
    with pytest.raises(kind, match=match):
        read_keypoints([pose(), kp], BODY16, 3, lambda i: f" (track p1, frame {41 + i})")


@given(st.integers(0, 2**32))
def test_keypoints_survive_the_wire(seed: int) -> None:
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(3, 16, 3)).astype(np.float32)
    confidence = rng.choice([0, 0.5, 1], (3, 16)).astype(np.float32)
    joints[confidence == 0] = 0
    listed, packed = write_keypoints(joints, confidence), pack_keypoints(joints, confidence)
    for kps in (listed, packed, [packed[0], listed[1], packed[2]]):
        found = read_keypoints(kps, BODY16, 3, where)
        np.testing.assert_allclose(found[..., :3], joints, atol=0 if kps is packed else 1e-6)
        np.testing.assert_array_equal(found[..., 3], confidence)


def packed(*joint: float) -> bytes:
    return np.array([joint] * 16, "<f4").tobytes()


@pytest.mark.parametrize(
    ("kp", "kind", "match"),
    [
        (
            packed(1, 2, 3),
            ShapeMismatch,
            "packed keypoints have 192 bytes, layout body16 in 3 dimensions has 256.*frame 1",
        ),
        (b"", ShapeMismatch, "have 0 bytes"),
        (packed(1, 2, 3, 1)[:-1], ShapeMismatch, "have 255 bytes"),
        (packed(math.inf, 2, 3, 1), BadNumber, "not a finite number.*frame 1"),
        (packed(-2e6, 2, 3, 1), BadNumber, "beyond"),
        (packed(1, 2, 3, 1.5), BadConfidence, "outside"),
        (packed(1, 2, 3, -math.inf), BadConfidence, "outside"),
    ],
)
def test_bad_packed_keypoints_say_what_and_where(kp: bytes, kind: type[PoselineError], match: str) -> None:
    with pytest.raises(kind, match=match):
        read_keypoints([packed(1, 2, 3, 1), kp], BODY16, 3, where)


@pytest.mark.parametrize("place", range(4))
def test_a_nan_anywhere_marks_its_joint_missing(place: int) -> None:
    numbers = np.frombuffer(packed(1, 2, 3, 1), "<f4").reshape(16, 4).copy()
    numbers[5, place] = math.nan
    found = read_keypoints([numbers.tobytes()], BODY16, 3, where)[0]
    assert found[5].tolist() == [0, 0, 0, 0]
    assert found[4].tolist() == [1, 2, 3, 1]


# --- recordings --------------------------------------------------------------------------------------------------


def track(name: str, frames: list[Any], start_frame: int = 0) -> TrackSpec:
    return TrackSpec(name, JSON.encode_keypoints(frames), start_frame)


def request(**changes: Any) -> LocalizeRequest:
    basis = {"tracks": [track("p1", [pose()] * 3)], "layout": "body16", "fps": 25.0}
    return LocalizeRequest(**basis | changes)


def test_a_track_stands_on_the_recordings_clock() -> None:
    (found,) = read_tracks(request(tracks=[track("p1", [pose()] * 3, start_frame=50)]))
    assert found.timestamps.tolist() == [2.0, 2.04, 2.08]


@pytest.mark.parametrize(
    ("changes", "kind", "match"),
    [
        ({"tracks": []}, TooShort, "no track"),
        ({"tracks": [track("p1", [pose(), [["x"]]])]}, MalformedMessage, r"got `str`.*track p1, counted from frame 0"),
        ({"tracks": [track("p1", [])]}, TooShort, "track p1 holds no frame"),
        ({"tracks": [track("p", [pose()]), track("p", [pose()])]}, MalformedMessage, "same track_id"),
        ({"fps": None}, MalformedMessage, "neither came"),
        ({"timestamps": [0.0, 1.0, 2.0]}, MalformedMessage, "both came"),
        ({"fps": 0.0}, BadTimestamps, "fps is 0"),
        ({"fps": None, "timestamps": [0.0, 1.0, 1.0]}, BadTimestamps, "1 follows 1 at frame 2"),
        ({"fps": None, "timestamps": [0.0, 1.0]}, BadTimestamps, "there are 2 timestamps"),
        ({"layout": "coco99"}, UnknownLayout, "coco99"),
        ({"layout": "coco17"}, ShapeMismatch, "joint axis has 16 entries, layout coco17 has 17"),
        ({"coordinates": CoordinatesSpec("furlong")}, UnitUnknown, "furlong"),
        ({"coordinates": CoordinatesSpec(dims=4)}, ShapeMismatch, "dims is 4"),
    ],
)
def test_bad_recordings(changes: dict[str, Any], kind: type[PoselineError], match: str) -> None:
    with pytest.raises(kind, match=match):
        read_tracks(request(**changes))


def test_the_contracts_example_is_understood() -> None:
    text = b"""{"id": "walk-0042", "model": "default", "layout": "coco17",
      "coordinates": {"space": "pixel", "dims": 2, "image_size": [1280, 720], "mirrored": false}, "fps": 30.0,
      "tracks": [{"track_id": "p1", "start_frame": 0, "keypoints": [[[612.0, 211.5, 0.98], null]]}],
      "options": {"mode": "offline", "min_score": 0.3, "classes": null, "max_segments": 500,
                  "return": ["segments"], "frame_scores_hz": 5}}"""
    found = decode_request(text)
    assert found.options.returns == ["segments"]
    assert found.coordinates.image_size == (1280, 720)
    assert coordinates_of(found.coordinates).y_axis == "down"


# --- words of the wire, words of the domain ----------------------------------------------------------------------


@pytest.mark.parametrize(("space", "axis"), [("pixel", "down"), ("normalized", "down"), ("camera_m", "up")])
def test_y_axis_by_space(space: str, axis: str) -> None:
    assert coordinates_of(CoordinatesSpec(space)).y_axis == axis
    assert coordinates_of(CoordinatesSpec(space, y_axis="up")).y_axis == "up"


def test_custom_layouts_are_read_whatever_their_spelling() -> None:
    found = layout_of(CustomLayout(["Left Shoulder", "right-hip"]))
    assert found.joints == ("left_shoulder", "right_hip")
    with pytest.raises(LayoutMismatch, match="nose more than once"):
        layout_of(CustomLayout(["nose", "Nose"]))
    with pytest.raises(LayoutMismatch, match="names 0 joints"):
        layout_of(CustomLayout([]))


def test_a_lopsided_custom_layout_cannot_be_mirrored() -> None:
    with pytest.raises(LayoutMismatch, match="left_eye without twin"):
        _ = layout_of(CustomLayout(["nose", "left_eye"])).mirror


def test_options_stand_on_the_manifests() -> None:
    defaults = DecodingOptions(min_score=0.6, updates=9)
    found = decoding_options(StreamOptions(off_score=0.3), defaults)
    assert (found.min_score, found.off_score, found.updates) == (0.6, 0.3, 0.0)
    assert decoding_options(StreamOptions(partials="all"), defaults).updates == UPDATE_SECONDS


@pytest.mark.parametrize("options", [StreamOptions(min_score=0.7), StreamOptions(off_score=0.2)])
def test_a_clients_threshold_holds_for_every_class(options: StreamOptions) -> None:
    own = {"jump": Thresholds(min_score=0.9, off_score=0.6)}
    defaults = DecodingOptions(thresholds=own)
    assert decoding_options(StreamOptions(min_duration=0.1), defaults).thresholds == own
    assert decoding_options(options, defaults).thresholds == {}


@pytest.mark.parametrize(
    ("options", "kind", "param"),
    [
        (StreamOptions(min_score=2.0), InputError, "options.min_score"),
        (StreamOptions(min_score=0.1, off_score=0.2), InputError, "options"),
        (StreamOptions(gap_reset=0.0), InputError, "options.gap_reset"),
        (StreamOptions(gap_reset=1e9), InputError, "options.gap_reset"),
        (StreamOptions(scores_hz=-1), InputError, "options.scores_hz"),
        (StreamOptions(evidence=-1.0), InputError, "options.evidence"),
    ],
)
def test_bad_options(options: StreamOptions, kind: type[PoselineError], param: str) -> None:
    with pytest.raises(kind) as caught:
        decoding_options(options, DecodingOptions())
    assert caught.value.param == param


def test_what_is_read_and_what_is_written_have_schemas() -> None:
    read, written = {"LocalizeRequest": LocalizeRequest}, {"ServerMessage": protocol.ServerMessage}
    found = schemas(read, written, "#/{name}")
    assert found["LocalizeRequest"]["required"] == ["tracks", "layout"]
    assert found["LocalizeRequest"]["properties"]["model"]["default"] == "default"
    assert {"$ref": "#/Scores"} in found["ServerMessage"]["anyOf"]
    scores = found["Scores"]
    assert scores["properties"]["type"] == {"enum": ["scores"]}
    assert scores["required"] == ["type", "seq", "session_id", "t", "track_id", "top"]
    assert "default" not in scores["properties"]["seq"]
    assert scores["description"].startswith("The best classes at media time `t`")
    assert "unknown:" not in scores["description"]
