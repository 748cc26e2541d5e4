"""Classes that are enrolled while the server runs: learnt in a thread, kept beside the bundle, and live in every stream at
once.

The folder is the one truth: what is enrolled is written there first, and now and then the folder is looked at, so that
servers which share it answer with the same classes, whoever was told of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from poseline.bundle import ModelBundle
from poseline.enrolment import EnrolledClass, Vocabulary
from poseline.errors import BundleError, InputError, Overloaded, PoselineError, TooManyClasses
from poseline.prototypes import Shown, check_class_name, folder_of, forget, keep, kept, learn, read
from poseline_service.engine import open_scorer
from poseline_service.errors import NotKept, UnknownClass
from poseline_service.logging import log

_WAITING = 4
"""Classes that are learnt or wait for it; each holds its examples meanwhile."""
_RETRY_AFTER = 2.0


class Enroller:
    """Of one loaded model. `vocabulary` changes on the event loop alone."""

    def __init__(self, bundle: ModelBundle, vocabulary: Vocabulary) -> None:
        self.bundle, self.vocabulary = bundle, vocabulary
        self._folder = folder_of(bundle)
        self._alone = asyncio.Lock()
        self._waiting = 0
        self._seen: dict[Path, int] = {}
        """What was read, and when it had been written."""
        self._refused: dict[Path, int] = {}
        """What was read and cannot answer now."""

    async def enrol(self, name: str, shown: Sequence[Shown]) -> EnrolledClass:
        """From now on it answers. Raises MalformedMessage, InputError, UnitUnknown, EnrolmentUnavailable, EngineFailure,
        TooManyClasses, NotKept, Overloaded; then nothing has changed."""
        if self._waiting >= _WAITING:
            raise Overloaded(f"{self._waiting} classes are being learnt already", retry_after=_RETRY_AFTER)
        self._waiting += 1
        try:
            async with self._alone:
                one = await asyncio.to_thread(self._learn, name, shown)
                self._room_for(one)
                await self._write(partial(keep, self._folder, one))
                self.vocabulary.put(one)
        finally:
            self._waiting -= 1
        log.info("class_enrolled", name=name, examples=one.examples, frames=one.frames)
        return one

    def _learn(self, name: str, shown: Sequence[Shown]) -> EnrolledClass:
        return learn(self.bundle, open_scorer(self.bundle, slots=1), name, shown)

    def _room_for(self, one: EnrolledClass) -> None:
        """Whatever speaks against it, before it is written."""
        Vocabulary(self.bundle.manifest).put(one)
        if self.vocabulary.full and self.vocabulary.find(one.name) is None:
            raise TooManyClasses(f"{len(self.vocabulary.enrolled)} classes are enrolled; remove one first")

    async def _write(self, write: partial[None]) -> None:
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise NotKept(f"the folder of enrolled classes cannot be written: {error.strerror}") from None

    async def remove(self, name: str) -> None:
        """It answers no more. Raises MalformedMessage, UnknownClass, NotKept."""
        check_class_name(name)
        async with self._alone:
            if name not in [one.name for one in self.vocabulary.enrolled]:
                raise UnknownClass(f"no class {name!r} is enrolled", param="name")
            await self._write(partial(forget, self._folder, name))
            self.vocabulary.drop(name)
        log.info("class_removed", name=name)

    async def follow(self) -> None:
        """What others have written to the folder since, or removed. A file that is none is logged and left alone."""
        async with self._alone:
            try:
                found = await asyncio.to_thread(kept, self._folder)
            except OSError as error:  # one of them has just been removed
                log.warning("enrolled_not_read", detail=str(error))
                return
            if found == self._seen:
                return
            changed = [path for path, written in found.items() if self._seen.get(path) != written]
            read_now = {path: await asyncio.to_thread(_tried, path) for path in changed}
            for one in self.vocabulary.enrolled:
                if self._folder / f"{one.name}.json" not in found:
                    self.vocabulary.drop(one.name)
            refused = {path: found[path] for path, one in read_now.items() if not self._put(path, found[path], one)}
            self._refused = refused
            # What there was no room for is tried again.
            self._seen = {path: written for path, written in found.items() if path not in refused}

    def _put(self, path: Path, written: int, one: EnrolledClass | PoselineError) -> bool:
        """Whether it answers; who does not is logged once."""
        try:
            if isinstance(one, PoselineError):
                raise one
            self.vocabulary.put(one)
        except (BundleError, InputError, TooManyClasses) as error:
            if self._refused.get(path) != written:
                log.error("enrolled_refused", code=error.code, detail=error.detail)
            return False
        return True


def _tried(path: Path) -> EnrolledClass | PoselineError:
    try:
        return read(path)
    except BundleError as error:
        return error
