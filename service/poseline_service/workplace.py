"""The folder in which one server keeps its jobs' files, locked as long as the server lives.

A server that is killed leaves its folder behind, but not the lock on it: the next one that starts in the same place removes
what nobody holds any more.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

_PREFIX = "poseline-jobs-"


class Workplace:
    """Made when it is first asked for; parent: where, else the system's place for such."""

    def __init__(self, parent: Path | None) -> None:
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._path: Path | None = None
        self._lock = -1
        for left in self._parent.glob(_PREFIX + "*"):
            _remove_if_left(left)

    @property
    def path(self) -> Path:
        while self._path is None:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
            try:
                self._lock = _hold(path)
            except (BlockingIOError, FileNotFoundError):  # another server started just now, and took it for left behind
                continue
            self._path = path
        return self._path

    def remove(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._path = None


def _hold(path: Path) -> int:
    """An open descriptor that locks a folder of this user until it is closed. Raises OSError."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        flock(lock, LOCK_EX | LOCK_NB)
        if not os.path.samestat(os.fstat(lock), os.lstat(path)) or os.fstat(lock).st_uid != os.getuid():
            raise FileNotFoundError(path)
    except OSError:
        os.close(lock)
        raise
    return lock


def _remove_if_left(path: Path) -> None:
    try:
        lock = _hold(path)
    except OSError:  # another server's, or another user's
        return
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
