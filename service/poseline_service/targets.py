"""Where webhooks may go: the operator's list, read once. Clients choose from it by name and never say an address.

A file in TOML (`POSELINE_WEBHOOKS`) holds one table a target:

    [ward]
    url = "https://alarms.example.org/poseline"
    secret_file = "/run/secrets/ward"      # or secret_env = "WARD_SECRET", or secret = "whsec_…"
    events = ["segment.final"]             # the default; also segment.started, session.closed, job.finished
    allow_private = false                  # true: http, and addresses that are not public, may be reached

An address that is not public is refused here where it is written out, and before every connection where it is a name's.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from poseline.errors import InputError
from poseline.webhooks import EventKind, secret_bytes
from poseline_service.errors import UnknownWebhook

_NAT64 = IPv6Network("64:ff9b::/96")


class Target(Struct, frozen=True):
    """Somewhere that events may be sent to. events: which of them it takes. owners: whose sessions and jobs may choose it;
    None is everybody's."""

    name: str
    url: httpx.URL
    secret: str
    events: frozenset[EventKind]
    allow_private: bool
    owners: frozenset[str] | None


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A target as the file has it."""

    url: str
    secret: str | None = None
    secret_file: str | None = None
    secret_env: str | None = None
    events: tuple[EventKind, ...] = ("segment.final",)
    allow_private: bool = False
    owners: list[str] | None = None


def read_targets(path: Path | None) -> Mapping[str, Target]:
    """By name; none where there is no file. Raises InputError, which names the target and never its secret."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            written = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"POSELINE_WEBHOOKS: {path} cannot be read: {error}") from None
    return {name: _target(name, entry, path.parent) for name, entry in written.items()}


def _target(name: str, written: Any, folder: Path) -> Target:
    where = f"POSELINE_WEBHOOKS: target {name!r}"
    try:
        entry = msgspec.convert(written, _Entry)
        url = httpx.URL(entry.url)
        secret = _secret(entry, folder)
        secret_bytes(secret)
    except (msgspec.ValidationError, httpx.InvalidURL, OSError, InputError) as error:
        raise InputError(f"{where}: {error}") from None
    schemes = ("https", "http") if entry.allow_private else ("https",)
    if url.scheme not in schemes or not url.host or url.userinfo or url.fragment:
        expected = " or ".join(f"{scheme}://host/path" for scheme in schemes)
        raise InputError(f"{where}: its url is not {expected}, without user name and fragment")
    if not entry.events:
        raise InputError(f"{where}: its events are none")
    if (address := _literal(url.host)) and not entry.allow_private and not is_public(address):
        raise InputError(f"{where}: {address} is not a public address, and allow_private is not set")
    owners = None if entry.owners is None else frozenset(entry.owners)
    return Target(name, url, secret, frozenset(entry.events), entry.allow_private, owners)


def _secret(entry: _Entry, folder: Path) -> str:
    """Raises InputError, OSError."""
    named = [one for one in (entry.secret, entry.secret_file, entry.secret_env) if one is not None]
    if len(named) != 1:
        raise InputError("expected exactly one of secret, secret_file and secret_env")
    if entry.secret is not None:
        return entry.secret
    if entry.secret_file is not None:
        return (folder / entry.secret_file).read_text().strip()
    if (value := os.environ.get(named[0])) is None:
        raise InputError(f"there is no environment variable {named[0]}")
    return value


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Of the internet at large: not private, loopback, link-local, shared, reserved or multicast, nor a way to such a one
    (IPv4 inside IPv6: mapped, 6to4, NAT64)."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def choose(targets: Mapping[str, Target], names: Sequence[str], kinds: Iterable[EventKind], owner: str) -> list[Target]:
    """The targets that a session or job of this owner names, each once. Raises UnknownWebhook: the same answer for one that
    is another owner's and one that is not there; and for one that takes none of these events."""
    chosen: dict[str, Target] = {}
    for name in names:
        target = targets.get(name)
        if target is None or not (target.owners is None or owner in target.owners):
            raise UnknownWebhook(f"there is no webhook {name!r} here", param="webhooks")
        if not target.events & frozenset(kinds):
            what = ", ".join(sorted(target.events))
            raise UnknownWebhook(f"webhook {name!r} takes {what} and nothing that could happen here", param="webhooks")
        chosen[name] = target
    return list(chosen.values())
