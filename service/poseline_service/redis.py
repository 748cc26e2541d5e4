"""The one door to a server that speaks Redis' protocol: scripts, each one step that no other can come between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from poseline.errors import InputError
from poseline_service.errors import StoreUnavailable

Script = Callable[[Sequence[str], Sequence[Any]], Awaitable[Any]]
"""(keys, arguments) → what the script returns. Raises StoreUnavailable."""


class Redis:
    """A client, which connects when it is first used. timeout: seconds for one answer. Raises InputError for an address
    that is none."""

    def __init__(self, url: str, timeout: float) -> None:
        try:
            self._client = Valkey.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
        except ValueError as error:
            raise InputError(f"POSELINE_STATE_URL: {error}") from None

    def script(self, text: str) -> Script:
        registered = self._client.register_script(text)

        async def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            try:
                return cast(Any, await registered(keys=keys, args=args))
            except (ValkeyError, OSError) as error:
                raise StoreUnavailable(f"the store of states does not answer: {error}") from None

        return run

    async def close(self) -> None:
        await self._client.aclose()
