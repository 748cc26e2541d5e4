"""Bodies too large for memory: streamed into a file, digested on the way, and refused the moment they pass a limit.

A request's body enters, or the `file` part of a multipart form; an `Upload` leaves. Blocks are written in a thread, so that
a slow disk holds up nobody's stream. What all jobs' files take together is counted in one `Budget`; a `JobFolder` gives back
what it took. A client's file name is a label: no path is ever made of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from poseline.errors import MalformedMessage, Overloaded, TooLarge
from poseline_service.errors import Silence, TooSlow

_BLOCK = 1024**2
"""Bytes that are written and digested in one go."""
_FIELD_BYTES = 64 * 1024
"""All that a form says beside its file, headers included."""
_LONGEST_SOURCE = 128


class Budget:
    """Bytes that something (`what`: "files of all jobs") takes, and may take. Safe to use from any thread."""

    def __init__(self, limit: int, retry_after: float, what: str) -> None:
        self._limit, self._retry_after, self._what = limit, retry_after, what
        self._lock = Lock()
        self.used = 0

    def take(self, size: int) -> None:
        """Raises Overloaded, and then has taken nothing."""
        with self._lock:
            if self.used + size > self._limit:
                what = f"the {self._what} would take more than {self._limit} bytes"
                raise Overloaded(what, retry_after=self._retry_after)
            self.used += size

    def give(self, size: int) -> None:
        with self._lock:
            self.used -= size


class JobFolder:
    """The files of one job."""

    def __init__(self, path: Path, disk: Budget) -> None:
        self.path = path
        self._disk = disk
        self._held = 0

    def grow(self, size: int) -> None:
        """To be asked before so many bytes are written. Raises Overloaded."""
        self._disk.take(size)
        self._held += size

    def write(self, name: str, data: bytes) -> None:
        """Raises Overloaded."""
        self.grow(len(data))
        (self.path / name).write_bytes(data)

    def discard(self, name: str) -> None:
        """Remove one file, which need not be there."""
        path = self.path / name
        if path.exists():
            size = path.stat().st_size
            path.unlink()
            self._disk.give(size)
            self._held -= size

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._disk.give(self._held)
        self._held = 0


@dataclass(frozen=True)
class Upload:
    """What came. fields: a form's other parts. source: the client's name of the file, fit to be shown."""

    digest: str
    fields: dict[str, bytes]
    source: str | None


@dataclass(frozen=True)
class Patience:
    """silence: seconds without a byte after which an upload is given up. rate: bytes a second that it must come at on
    average, once so many seconds have been waited for it; a drop now and then would hold a job's place for ever."""

    silence: float
    rate: float


async def receive(request: Request, folder: JobFolder, name: str, limit: int, patience: Patience) -> Upload:
    """The request's file as `name` in the folder.

    Raises TooLarge, Overloaded, MalformedMessage, Silence, TooSlow; what was written by then is the folder's to remove.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit + _FIELD_BYTES:
        raise _too_large(limit)
    kind, given = parse_options_header(request.headers.get("content-type"))
    form = _Form(given.get(b"boundary", b"")) if kind == b"multipart/form-data" else None
    with (folder.path / name).open("wb") as file:
        writer = _Writer(file, folder, limit)
        async with aclosing(chunks(request, patience)) as parts:
            async for chunk in parts:
                await writer.write(form.feed(chunk) if form else chunk)
        await writer.flush()
    fields, source = form.finish() if form else ({}, None)
    return Upload(writer.digest.hexdigest(), fields, source)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the file is larger than {limit} bytes")


async def chunks(request: Request, patience: Patience) -> AsyncGenerator[bytes]:
    """A body as it comes. What the client takes counts, not what is done with it.

    Raises Silence, TooSlow, MalformedMessage.
    """
    stream = request.stream()
    waited, came = 0.0, 0
    while True:
        left = patience.silence + came / patience.rate - waited
        begin = perf_counter()
        try:
            async with asyncio.timeout(min(patience.silence, left)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if left < patience.silence:
                raise TooSlow(f"the body comes at less than {patience.rate:g} bytes a second") from None
            raise Silence(f"nothing came for {patience.silence:g} seconds") from None
        except ClientDisconnect:
            raise MalformedMessage("the connection ended before the body did", code="incomplete_body") from None
        waited += perf_counter() - begin
        came += len(chunk)
        yield chunk


class _Writer:
    """Collects blocks, and writes each in a thread."""

    def __init__(self, file: BinaryIO, folder: JobFolder, limit: int) -> None:
        self.digest = hashlib.sha256()
        self._file, self._folder, self._limit = file, folder, limit
        self._size = 0
        self._block = bytearray()

    async def write(self, data: bytes) -> None:
        """Raises TooLarge, Overloaded."""
        self._size += len(data)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self._block += data
        if len(self._block) >= _BLOCK:
            await self.flush()

    async def flush(self) -> None:
        block, self._block = self._block, bytearray()
        self._folder.grow(len(block))
        await asyncio.to_thread(self._put, block)

    def _put(self, block: bytearray) -> None:
        self.digest.update(block)
        self._file.write(block)


class _Form:
    """A multipart form as it comes in: the bytes of its part `file` pass through, its other parts are kept."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise _malformed("the content type names no boundary")
        self._fields: dict[str, bytes] = {}
        self._source: str | None = None
        self._header, self._value, self._disposition = b"", b"", b""
        self._name = ""
        self._files, self._kept, self._over = 0, 0, False
        self._out = bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def feed(self, chunk: bytes) -> bytes:
        """The file's share of a chunk. Raises MalformedMessage, TooLarge."""
        self._out = bytearray()
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        return bytes(self._out)

    def finish(self) -> tuple[dict[str, bytes], str | None]:
        """The other parts by name, and what the client calls the file. Raises MalformedMessage."""
        if not self._over:
            raise _malformed("the last boundary is missing")
        if self._files != 1:
            raise _malformed(f"{self._files} parts are named 'file', expected one")
        return self._fields, self._source

    def _begin_part(self) -> None:
        self._header, self._value, self._disposition = b"", b"", b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._keep(end - start)
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._keep(end - start)
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _begin_data(self) -> None:
        _, said = parse_options_header(self._disposition)
        self._name = said.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            self._files += 1
            self._source = shown(said.get(b"filename", b"").decode("utf-8", "replace"))
        elif self._name in self._fields:
            raise _malformed(f"two parts are named {self._name[:_LONGEST_SOURCE]!r}")
        else:
            self._fields[self._name] = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._out += data[start:end]
            return
        self._keep(end - start)
        self._fields[self._name] += data[start:end]

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > _FIELD_BYTES:
            raise TooLarge(f"the form says more than {_FIELD_BYTES} bytes beside its file")

    def _end(self) -> None:
        self._over = True


def _malformed(what: str) -> MalformedMessage:
    return MalformedMessage(f"the form cannot be read: {what}", code="invalid_form")


def shown(name: str) -> str | None:
    """A client's file name as a label: its last component, printable, not long; None where nothing is left."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in last if char.isprintable())[:_LONGEST_SOURCE].strip() or None


def safe_name(source: str | None, otherwise: str) -> str:
    """The stem of a file name that any file system and header bears."""
    stem = (source or "").rpartition(".")[0] or source or ""
    fit: Callable[[str], bool] = lambda char: char.isascii() and (char.isalnum() or char in "-_")  # noqa: E731
    kept = "".join(char if fit(char) else "_" for char in stem).strip("_")
    return kept or otherwise
