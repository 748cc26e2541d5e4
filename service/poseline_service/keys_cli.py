"""`poseline keys`: who may use a server. What it writes, a running server reads within seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from poseline.errors import InputError
from poseline_service.keys import StoredKey, check_key, new_key, read_keys, write_keys
from poseline_service.principals import USUAL

Action = Literal["new", "list", "revoke"]


def keys(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    name: Annotated[str | None, typer.Argument(help="Whose key: a-z, 0-9 and -; owner of what it makes.")] = None,
    file: Annotated[Path, typer.Option(envvar="POSELINE_KEYS", help="File of keys; `new` makes it.")] = Path(
        "keys.json"
    ),
    scopes: Annotated[str, typer.Option(help="What it may do, with commas between.")] = ",".join(USUAL),
    days: Annotated[float | None, typer.Option(help="Days until it expires; else never.", min=0)] = None,
    sessions: Annotated[int | None, typer.Option(help="Streams open at a time.", min=1)] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests and handshakes.", min=1)] = None,
    frames_per_day: Annotated[int | None, typer.Option(help="Frames to be scored; else any number.", min=1)] = None,
    jobs: Annotated[int | None, typer.Option(help="Jobs waiting at a time.", min=1)] = None,
) -> None:
    """Make, list and revoke API keys. A key is shown once, when it is made; the file holds its hash."""
    known = read_keys(file) if file.exists() or action != "new" else []
    if action == "list":
        _show(known)
        return
    if name is None:
        raise InputError(f"poseline keys {action} needs a name")
    others = [key for key in known if key.name != name]
    if action == "revoke":
        if len(others) == len(known):
            raise InputError(f"{file} has no key {name!r}")
        write_keys(file, others)
        return
    if len(others) < len(known):
        raise InputError(f"{file} has a key {name!r}; revoke it first")
    secret, hashed = new_key(name)
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    chosen = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    stored = StoredKey(name, hashed, chosen, expires, sessions, requests_per_minute, frames_per_day, jobs)
    check_key(stored, f"key {name!r}")
    write_keys(file, [*known, stored])
    typer.echo(secret)


def _show(known: list[StoredKey]) -> None:
    table = Table("key", "scopes", "expires", "streams", "requests a minute", "frames a day", "jobs waiting")
    for key in known:
        expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}"
        limits = (key.sessions, key.requests_per_minute, key.frames_per_day, key.jobs)
        table.add_row(key.name, ", ".join(key.scopes), expires, *("" if one is None else str(one) for one in limits))
    Console().print(table)
