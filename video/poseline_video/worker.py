"""The extracting process: `python -m poseline_video.worker`, a `Request` on stdin, messages on stdout.

Decoding runs ahead of inference in a thread of its own; both libraries let go of the interpreter. Nothing that starts
threads is imported before the process has left the network, and nothing of the caller's is opened before its limits
stand. Whatever goes wrong here is a `Failure` or the end of this process, never of the parent's.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from poseline.errors import ExtractionFailed, MediaTooLarge, PoselineError
from poseline_video.isolation import cut_off, give_up
from poseline_video.wire import End, Failure, Frame, Message, Opened, Request, Seen, decode_request, encode

if TYPE_CHECKING:
    from poseline_video.media import Picture, Video

_AHEAD = 4
"""Pictures decoded before they are looked at."""


def main() -> None:
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is no message
    request = decode_request(sys.stdin.buffer.read())
    try:
        if not request.egress:
            cut_off()
        extract(request, out)
        _say(out, End())
    except PoselineError as error:
        _say(out, Failure(error.code, error.detail))
    except MemoryError:
        _say(out, Failure(MediaTooLarge.code, "it takes more memory than allowed"))
    except Exception as error:  # neither decoder nor model is ours
        _say(out, Failure(ExtractionFailed.code, f"{type(error).__name__}: {error}"))
    os._exit(0)  # the decoding thread may sit in the library


def extract(request: Request, out: BinaryIO) -> None:
    give_up(request.limits, nice=0 if request.live else 5)
    with ExitStack() as stack:
        video = stack.enter_context(_open(request))
        # Here, and not above: these start threads; and what is no video costs nobody their loading.
        from poseline_video.extractor import MediaPipeExtractor
        from poseline_video.tracker import Tracker

        extractor = stack.enter_context(MediaPipeExtractor(Path(request.model), request.people))
        tracker, opened = Tracker(), False
        for picture in newest(video, paced=request.kind == "file") if request.live else _ahead(video):
            height, width = picture.rgb.shape[:2]
            if not opened:
                _say(out, Opened(width, height, video.fps, video.duration, video.frames))
                opened = True
            found = extractor.detect(picture.rgb, picture.t)
            names = tracker.update([one.image for one in found], picture.t, width / height)
            people = [Seen(name, found[i].world.tobytes(), found[i].image.tobytes()) for name, i in names]
            _say(out, Frame(picture.t, people))


def _say(out: BinaryIO, message: Message) -> None:
    out.write(encode(message))


def _open(request: Request) -> AbstractContextManager[Video]:
    from poseline_video.media import open_file, open_url, open_webcam

    match request.kind:
        case "file":
            return open_file(Path(request.source), request.limits)
        case "url":
            return open_url(request.source, request.limits)
        case "webcam":
            return open_webcam(int(request.source), request.limits)


def _ahead(video: Video) -> Iterator[Picture]:
    """Every picture, decoded by another thread."""
    waiting: queue.Queue[Picture | BaseException | None] = queue.Queue(_AHEAD)

    def decode() -> None:
        try:
            for picture in video.pictures():
                waiting.put(picture)
            waiting.put(None)
        except BaseException as error:
            waiting.put(error)

    return _until_the_end(decode, waiting)


def newest(video: Video, *, paced: bool) -> Iterator[Picture]:
    """Pictures as they happen; one that is not looked at before the next comes is dropped. paced: a file, at its pace."""
    waiting: queue.Queue[Picture | BaseException | None] = queue.Queue(1)

    def put(picture: Picture) -> None:
        while True:
            try:
                return waiting.put_nowait(picture)
            except queue.Full:
                try:
                    waiting.get_nowait()
                except queue.Empty:
                    continue

    def decode() -> None:
        begin = time.monotonic()
        try:
            for picture in video.pictures():
                if paced:
                    time.sleep(max(0.0, begin + picture.t - time.monotonic()))
                put(picture)
            waiting.put(None)  # after the last picture, not in its place
        except BaseException as error:
            waiting.put(error)

    return _until_the_end(decode, waiting)


def _until_the_end(decode: object, waiting: queue.Queue[Picture | BaseException | None]) -> Iterator[Picture]:
    threading.Thread(target=decode, daemon=True).start()  # type: ignore[arg-type]
    while (one := waiting.get()) is not None:
        if isinstance(one, BaseException):
            raise one
        yield one


if __name__ == "__main__":
    main()
