"""`/v1/jobs`: videos and long recordings in, their progress, their answers in every format. Thin, as `routes`.

Everybody sees their own jobs alone; of others' nobody is told so much as that they are there.
"""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import FileResponse, Response

from poseline.codec import MEDIA_TYPES, decode_response, decode_video_request, encode
from poseline.errors import InputError
from poseline.formats.timelines import FORMATS, timeline_format
from poseline.protocol import JobList, JobStatus, LocalizeRequest, VideoRequest
from poseline_service.access import needs
from poseline_service.bodies import BodyFormat, content_coding, media_type
from poseline_service.errors import UnknownJob, UnsupportedEncoding, UnsupportedMedia
from poseline_service.jobs import UPLOAD, Job, Source
from poseline_service.openapi import body_of, result_of
from poseline_service.runtime import Runtime
from poseline_service.sources import RecordingSource, VideoSource, check_video, check_wanted
from poseline_service.tracks import LoadedModel
from poseline_service.uploads import Patience, Upload, receive, safe_name

router = APIRouter(prefix="/v1/jobs", dependencies=[needs("jobs")])
_LONGEST_KEY = 255
_VIDEO = ("multipart/form-data", "application/octet-stream", "video/*")
_MEDIA = dict.fromkeys(one.media_type.partition(";")[0] for one in FORMATS.values())


def _runtime(request: Request) -> Runtime:
    return request.app.state.runtime


def _owner(request: Request) -> str:
    return request.state.principal.owner


def _told(job: Job, status: int = 200) -> Response:
    return Response(encode(job.status()), status, media_type="application/json")


@router.post(
    "",
    summary="A video or a long recording, to be worked on while the client does something else",
    status_code=202,
    openapi_extra=body_of(LocalizeRequest, *_VIDEO, form=VideoRequest),
    responses=result_of(JobStatus, 202, what="The job; its address is the answer's `Location`"),
)
async def submit(
    request: Request,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=_LONGEST_KEY)] = None,
    people: Annotated[int | None, Query(ge=1)] = None,
    webhook: Annotated[list[str], Query()] = [],  # noqa: B006 (FastAPI's way; read only)
) -> Response:
    runtime = _runtime(request)
    settings, model = runtime.settings, runtime.admit()
    told = runtime.webhooks.of_job(webhook, _owner(request))
    form = _form(request)
    if form is None:
        check_video(settings)
    account = runtime.access.account(request.state.principal)
    with runtime.jobs.arriving(_owner(request), account.allowance.jobs) as folder:
        limit = settings.video_bytes if form is None else settings.job_bytes
        patience = Patience(settings.idle_seconds, settings.upload_rate)
        upload = await receive(request, folder, UPLOAD, limit, patience)
        source: Source
        if form is None:
            source = VideoSource(settings.for_jobs(), _wanted(upload, people, model), upload.digest)
        else:
            source = RecordingSource(settings.for_jobs(), form, upload.digest)
        job = runtime.jobs.submit(source, folder, model, upload.source, key, _owner(request), account.spend, told)
    answer = _told(job, 202)
    answer.headers["Location"] = f"/v1/jobs/{job.id}"
    return answer


def _form(request: Request) -> BodyFormat | None:
    """How a recording is written; None for a video. Raises UnsupportedMedia, UnsupportedEncoding."""
    kind, coding = media_type(request), content_coding(request)
    if kind in MEDIA_TYPES:
        return BodyFormat.of(request)
    if not any(fnmatchcase(kind, known) for known in _VIDEO):
        raise UnsupportedMedia(f"content type is {kind or 'missing'}, expected {', '.join((*MEDIA_TYPES, *_VIDEO))}")
    if coding != "identity":
        raise UnsupportedEncoding(f"content encoding is {coding}, expected none (but for recordings)")
    return None


def _wanted(upload: Upload, people: int | None, model: LoadedModel) -> VideoRequest:
    """The form's `request`, with `people` from the form or the query on top. Raises what is wrong with it."""
    if unknown := sorted(set(upload.fields) - {"request", "people"}):
        raise InputError(f"the form has parts that nobody asks for: {', '.join(unknown)}; known: file, request, people")
    wanted = decode_video_request(upload.fields.get("request", b"{}"))
    if "people" in upload.fields:
        number = upload.fields["people"].decode("ascii", "replace").strip()
        people = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
    if people is not None:
        wanted = msgspec.structs.replace(wanted, people=people)
    check_wanted(wanted, model)
    return wanted


@router.get("", summary="Every job that is kept, newest first", responses=result_of(JobList))
async def jobs(request: Request) -> Response:
    kept = JobList([job.status() for job in _runtime(request).jobs.all(_owner(request))])
    return Response(encode(kept), media_type="application/json")


@router.get("/{job_id}", summary="One job: its state and progress", responses=result_of(JobStatus))
async def job(request: Request, job_id: str) -> Response:
    return _told(_runtime(request).jobs.find(job_id, _owner(request)))


@router.delete(
    "/{job_id}",
    summary="Cancel a job, or forget one that is over",
    responses=result_of(JobStatus, what="It was cancelled")
    | result_of(None, 204, what="It was over, and is forgotten"),
)
async def drop(request: Request, job_id: str) -> Response:
    board = _runtime(request).jobs
    found = board.find(job_id, _owner(request))
    return _told(found) if await board.drop(found) else Response(status_code=204)


@router.get(
    "/{job_id}/result",
    summary="What was found, in a format of one's choice",
    responses=result_of(None, media=tuple(_MEDIA), what="A file; of `json`, the answer of `POST /v1/localize`"),
)
async def result(request: Request, job_id: str, format: str = "json") -> Response:
    chosen = timeline_format(format)
    board = _runtime(request).jobs
    found = board.find(job_id, _owner(request))
    path, name = board.result(found), safe_name(found.name, found.id) + chosen.suffix
    try:
        if format == "json":  # the answer itself, which may be large: never whole in memory
            status = await asyncio.to_thread(path.stat)
            return FileResponse(path, media_type=chosen.media_type, filename=name, stat_result=status)
        body = await asyncio.to_thread(_written, found, path, format)
    except FileNotFoundError:  # forgotten in this very moment
        raise UnknownJob("the job was forgotten") from None
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, headers=headers, media_type=chosen.media_type)


def _written(job: Job, path: Path, format: str) -> bytes:
    """Through the timeline's writers."""
    assert job.about is not None
    return FORMATS[format].write(job.about(decode_response(path.read_bytes())))


@router.get(
    "/{job_id}/poses",
    summary="A video's poses, frame by frame (NDJSON), where they were asked for",
    responses=result_of(None, media=("application/x-ndjson",)),
)
async def poses(request: Request, job_id: str) -> Response:
    board = _runtime(request).jobs
    found = board.find(job_id, _owner(request))
    name = safe_name(found.name, found.id) + ".ndjson"
    return FileResponse(board.poses(found), media_type="application/x-ndjson", filename=name)
