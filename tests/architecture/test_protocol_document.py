"""docs/protocol.md is complete: every field, code and limit of the wire is in it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import poseline.client
import poseline_service.errors
from poseline import discovery, protocol
from poseline.errors import PoselineError
from poseline_service.settings import ServiceSettings

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "protocol.md").read_text()
SOURCES = [
    path.read_text()
    for folder in ("core/poseline", "service/poseline_service")
    for path in (PROJECT / folder).rglob("*.py")
]
LITERALS = (
    r'\bcode="(\w+)"',
    r'\bNotice\(\s*"(\w+)"',
    r'\bproblem\(\s*\d{3}, "(\w+)"',
    r'\b\d{3}: "(\w+)"',
    r'^    "(\w+)": "frames ',
)


def kinds(base: type) -> set[type]:
    return {base}.union(*(kinds(kind) for kind in base.__subclasses__()))


def codes() -> set[str]:
    assert poseline.client, poseline_service.errors  # imported, so that their errors are among the subclasses
    ours = {kind.code for kind in kinds(PoselineError) if kind.__module__.startswith("poseline")}
    found = {one for source in SOURCES for like in LITERALS for one in re.findall(like, source, re.MULTILINE)}
    return ours | found | {"http_error", "track_limit", "clock_jump"}


def fields() -> set[str]:
    told = [*vars(protocol).values(), *vars(discovery).values()]
    every = [one for one in told if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return {field.encode_name for one in every if one is not msgspec.Struct for field in msgspec.structs.fields(one)}


def test_the_search_finds_codes_of_every_kind() -> None:
    """Or the tests below would pass for want of anything to look for."""
    kinds_of_code = {"invalid_json", "too_many_people", "layout_converted", "not_found", "late_frame", "idle_timeout"}
    assert kinds_of_code <= codes()
    assert {"max_segments", "return", "from", "client_seq", "start_frame"} <= fields()


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_code_is_documented(code: str) -> None:
    assert f"`{code}`" in DOCUMENT


@pytest.mark.parametrize("field", sorted(fields()))
def test_every_field_is_documented(field: str) -> None:
    assert re.search(rf"`(options\.)?{field}`", DOCUMENT)


@pytest.mark.parametrize("kind", sorted(re.findall(r'tag="([\w.]+)"', Path(protocol.__file__).read_text())))
def test_every_message_is_documented(kind: str) -> None:
    assert f"`{kind}`" in DOCUMENT


def test_limits_are_as_shipped() -> None:
    """Defaults alone: the environment's settings are its own affair."""
    default = {name: field.default for name, field in ServiceSettings.model_fields.items()}
    assert set(ServiceSettings().limits()) <= set(re.findall(r"`(\w+)`", DOCUMENT))
    for text in (
        f"{default['body_bytes'] >> 20} MiB a body",
        f"{default['decompressed_bytes'] >> 20} MiB a body once decompressed",
        f"{default['max_frames']:,} frames of all tracks".replace(",", " "),
        f"{default['tracks_per_session']} tracks alive",
        f"{default['message_bytes'] >> 10} KiB a message",
        f"{default['all_body_bytes'] >> 20} MiB of the bodies of all requests",
        f"{default['connections']} connections in all, {default['connections_per_address']} from one address",
        f"{default['head_bytes'] >> 10} KiB a request's head; {default['head_seconds']:g} s for it",
        f"{default['frames_per_message']} frames a message",
        f"{default['people_per_frame']} people a frame",
        f"{default['queue_frames']} grid frames pending",
        f"{default['start_seconds']:g} s to `session.start`; {default['idle_seconds']:g} s of silence",
        f"{default['max_sessions']} streams, {default['slots']} tracks",
        f"{default['video_bytes'] >> 30} GiB, {default['video_seconds'] / 3600:g} hours",
        f"{default['job_bytes'] >> 20} MiB a recording of a job, {default['job_decompressed_bytes'] >> 20} MiB once",
        f"{default['job_frames']:,} frames |".replace(",", " "),
        f"{default['queued_jobs']} jobs waiting, uploads included; {default['job_disk_bytes'] >> 30} GiB",
        f"{default['key_sessions']} streams, {default['key_jobs']} waiting jobs (uploads included) of one caller",
        f"{default['max_jobs']} jobs kept, each for {default['job_ttl'] / 3600:g} hours after its end",
    ):
        assert text in DOCUMENT
