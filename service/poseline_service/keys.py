"""API keys: a file of who has which, and the command that writes it.

A key is `pk_NAME_SECRET`; the secret is 256 random bits, so its SHA-256 is all that need be kept, and no slow hash is needed
to keep it. The file is read anew when it changes, so a key that is taken out of it opens nothing from then on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe

import msgspec
from msgspec import Struct, structs

from poseline.errors import InputError
from poseline_service.errors import Unauthorized
from poseline_service.principals import SCOPES, Allowance, Principal

_KEY = re.compile(r"pk_([a-z0-9-]{1,32})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[a-z0-9-]{1,32}")


class StoredKey(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of a key. name: also the owner of what it makes. hash: SHA-256 of the whole key, in hex."""

    name: str
    hash: str
    scopes: list[str]
    expires: datetime | None = None
    sessions: int | None = None
    requests_per_minute: int | None = None
    frames_per_day: int | None = None
    jobs: int | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[StoredKey]


def read_keys(path: Path) -> list[StoredKey]:
    """Raises InputError where it is no file of keys."""
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=_File).keys
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", param="keys") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is no file of keys: {error}", param="keys") from None
    names = [key.name for key in keys]
    for key in keys:
        check_key(key, f"{path}: key {key.name!r}")
        if names.count(key.name) > 1:
            raise InputError(f"{path}: two keys are called {key.name!r}", param="keys")
    return keys


def check_key(key: StoredKey, where: str) -> None:
    """Raises InputError, which says where."""
    if not _NAME.fullmatch(key.name):
        raise InputError(f"{where}: a name is 1 to 32 of a-z, 0-9 and -", param="keys")
    if unknown := sorted(set(key.scopes) - set(SCOPES)):
        raise InputError(f"{where}: no such scope: {', '.join(unknown)}; known: {', '.join(SCOPES)}", param="keys")
    if not re.fullmatch(r"[0-9a-f]{64}", key.hash):
        raise InputError(f"{where}: hash is no SHA-256 in hex", param="keys")
    if key.expires is not None and key.expires.tzinfo is None:
        raise InputError(f"{where}: expires has no time zone", param="keys")
    for limit in (key.sessions, key.requests_per_minute, key.frames_per_day, key.jobs):
        if limit is not None and limit < 1:
            raise InputError(f"{where}: a limit is at least 1, or left out", param="keys")


def write_keys(path: Path, keys: list[StoredKey]) -> None:
    """As a whole or not at all: a server may be reading it."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2) + b"\n")
    os.replace(beside, path)


def new_key(name: str) -> tuple[str, str]:
    """A key for whoever is to have it, and its hash. Raises InputError for a name that is none."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a key: 1 to 32 of a-z, 0-9 and -", param="name")
    key = f"pk_{name}_{token_urlsafe(32)}"
    return key, _hashed(key)


class KeyRing:
    """The keys of a file, as it is now. default: limits of keys that name none of their own."""

    def __init__(self, path: Path, default: Allowance) -> None:
        self._path = path
        self._default = default
        self._read_at: tuple[int, ...] = ()
        self._keys: Mapping[str, tuple[bytes, Principal]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it has changed; whether it had. Raises InputError, and keeps what it knew."""
        try:
            state = self._path.stat()
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}", param="keys") from None
        version = (state.st_mtime_ns, state.st_size, state.st_ino)
        if version == self._read_at:
            return False
        self._read_at = version  # a file that is wrong is complained of once
        self._keys = {key.name: (key.hash.encode(), self._principal(key)) for key in read_keys(self._path)}
        return True

    def _principal(self, key: StoredKey) -> Principal:
        limits = {name: getattr(key, name) for name in Allowance.__struct_fields__}
        allowance = structs.replace(self._default, **{name: one for name, one in limits.items() if one is not None})
        expires = None if key.expires is None else key.expires.astimezone(UTC).timestamp()
        return Principal(key.name, frozenset(key.scopes), allowance, expires, key.hash[:16])

    def find(self, key: str) -> Principal:
        """Raises Unauthorized; the answer does not tell which part of it was wrong."""
        match = _KEY.fullmatch(key)
        known = self._keys.get(match[1]) if match else None
        if known is None or not compare_digest(known[0], _hashed(key).encode()):
            raise Unauthorized("this key is not known here")
        return known[1]

    def knows(self, principal: Principal) -> bool:
        """The key that it showed is still good."""
        known = self._keys.get(principal.owner)
        return known is not None and known[1].fingerprint == principal.fingerprint

    def current(self, principal: Principal) -> Principal:
        return self._keys[principal.owner][1]


def is_key(credential: str) -> bool:
    return credential.startswith("pk_")


def _hashed(key: str) -> str:
    return sha256(key.encode()).hexdigest()
