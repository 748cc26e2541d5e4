"""What a client shows to be let in: an API key, or a token that is fetched anew whenever it connects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable

VARIABLE = "POSELINE_API_KEY"
"""The environment variable by which programs of ours are given one."""
Credential = str | Callable[[], str | Awaitable[str]]
"""An API key, or a function that gives the token of this moment."""


async def bearer(credential: Credential | None) -> dict[str, str]:
    """The headers that show it."""
    if callable(credential):
        given = credential()
        credential = await given if isawaitable(given) else given
    return bearer_of(credential)


def bearer_of(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}
