"""What the extracting process gives up before it opens anything, for good: the network, and all it does not need.

Decoders are large programs that read strangers' bytes. Whatever one of them is talked into, it can reach no network,
write no file, and use no more time and memory than it was given. Must be called while the process has one thread (the
kernel's condition for a new user namespace), so nothing that starts threads may have been imported before.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

from poseline.errors import IsolationRefused
from poseline_video.wire import ExtractionLimits

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_OPEN_FILES = 64


def cut_off() -> None:
    """Leave the network for an empty one, which not even has a loopback that is up. Raises IsolationRefused."""
    if not sys.platform.startswith("linux"):
        raise IsolationRefused(
            f"videos are opened only where Linux can cut a process off the network, not {sys.platform}"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise IsolationRefused(f"the system refuses a network namespace of its own to the extracting process: {reason}")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise IsolationRefused(f"the system refuses no_new_privs: {os.strerror(ctypes.get_errno())}")


def give_up(limits: ExtractionLimits, *, nice: int = 5) -> None:
    """Lower the kernel's limits; they cannot be raised again. nice: how far to step back behind other processes."""
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        hard = resource.getrlimit(what)[1]
        wanted = resource.RLIM_INFINITY if most == float("inf") else int(most)
        if hard != resource.RLIM_INFINITY:
            wanted = hard if wanted == resource.RLIM_INFINITY else min(hard, wanted)
        # One second of CPU time early: the signal of the soft limit tells why, that of the hard one only kills.
        soft = max(1, wanted - 1) if what == resource.RLIMIT_CPU and wanted != resource.RLIM_INFINITY else wanted
        resource.setrlimit(what, (soft, wanted))
    os.nice(nice)
