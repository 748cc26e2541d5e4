"""Whole data messages, held against the parser of `websockets`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from poseline_service.frames import BINARY, TEXT, frame_size, framed, take_messages

LIMIT = 70_000
PAYLOADS = st.binary(max_size=300) | st.sampled_from([0, 125, 126, 127, 65535]).map(bytes)
MESSAGES = st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), PAYLOADS)
OTHERS = st.sampled_from(
    [
        Frame(Opcode.PING, b"x").serialize(mask=True),
        Frame(Opcode.TEXT, b"a", fin=False).serialize(mask=True),
        Frame(Opcode.CONT, b"b").serialize(mask=True),
        Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True),
        Frame(Opcode.BINARY, b"not masked").serialize(mask=False),
        b"\xc2" + Frame(Opcode.BINARY, b"extended").serialize(mask=True)[1:],
        Frame(Opcode.BINARY, bytes(65536)).serialize(mask=True),  # its length takes eight bytes
        Frame(Opcode.BINARY, bytes(LIMIT + 1)).serialize(mask=True),
    ]
)


def frame_of(message: tuple[Opcode, bytes]) -> bytes:
    return Frame(*message).serialize(mask=True)


def as_the_library_reads(data: bytes) -> list[tuple[int, bytes]]:
    """Whole data messages until the first event that is none."""
    protocol = ServerProtocol(max_size=LIMIT, state=OPEN)
    protocol.receive_data(data)
    found: list[tuple[int, bytes]] = []
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if not event.fin or event.opcode not in (Opcode.TEXT, Opcode.BINARY):
            break
        found.append((0x80 | event.opcode, bytes(event.data)))
    return found


@given(st.lists(MESSAGES, max_size=5), st.just(b"") | OTHERS, st.binary(max_size=20))
def test_what_is_taken_is_what_the_library_reads(messages: list, other: bytes, rest: bytes) -> None:
    data = b"".join(map(frame_of, messages)) + other
    taken, left = take_messages(data + rest, LIMIT, 9)
    assert taken[: len(messages)] == [(0x80 | opcode, payload) for opcode, payload in messages]
    if other:
        assert (len(taken), left) == (len(messages), other + rest)
    else:
        assert taken == as_the_library_reads(data + rest)[: len(taken)]


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 5))
def test_no_more_are_taken_than_asked_for(messages: list, most: int) -> None:
    frames = [frame_of(message) for message in messages]
    taken, left = take_messages(b"".join(frames), LIMIT, most)
    assert len(taken) == min(most, len(messages))
    assert left == b"".join(frames[most:])


@given(MESSAGES.map(frame_of) | OTHERS, st.integers(0, 400))
def test_a_frame_is_as_long_as_it_says_once_its_head_has_come(frame: bytes, cut: int) -> None:
    assert frame_size(frame) == frame_size(frame + b"x") == len(frame)
    assert frame_size(frame[: min(cut, len(frame) - 1)]) > min(cut, len(frame) - 1)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_garbage_is_never_taken_for_more_than_the_library_reads(data: bytes) -> None:
    taken, left = take_messages(data, LIMIT, 9)
    assert taken == as_the_library_reads(data)[: len(taken)]
    assert data.endswith(left)


@given(MESSAGES, st.integers(0, 400))
def test_an_incomplete_message_is_left_whole(message: tuple[Opcode, bytes], cut: int) -> None:
    data = frame_of(message)
    part = data[: min(cut, len(data) - 1)]
    assert take_messages(part, LIMIT, 9) == ([], part)


@pytest.mark.parametrize(("opcode", "first"), [(Opcode.TEXT, TEXT), (Opcode.BINARY, BINARY)])
@given(payload=PAYLOADS | st.just(bytes(65536)))
def test_a_servers_message_is_framed_as_the_library_does(opcode: Opcode, first: int, payload: bytes) -> None:
    assert framed(payload, first) == Frame(opcode, payload).serialize(mask=False)
