"""Bodies of requests that are kept in memory: read no faster than wanted, no slower than allowed, and never too many.

A body counts from its first byte until its request is answered, so that thousands of callers who each send a permitted
one, and then wait, have a bound in common.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from starlette.requests import Request

from poseline.errors import TooLarge
from poseline_service.settings import ServiceSettings
from poseline_service.uploads import Budget, Patience, chunks


class HeldBodies:
    """All bodies that one server holds."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._limit = settings.body_bytes
        self._patience = Patience(settings.idle_seconds, settings.upload_rate)
        self._budget = Budget(settings.all_body_bytes, settings.retry_after, "bodies of all requests")

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncGenerator[bytes]:
        """The whole body, as long as the context lasts.

        Raises TooLarge, Overloaded, MalformedMessage, Silence, TooSlow.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit:
            raise self._too_large()
        body = bytearray()
        taken = 0
        try:
            async with aclosing(chunks(request, self._patience)) as parts:
                async for part in parts:
                    self._budget.take(len(part))
                    taken += len(part)
                    if taken > self._limit:
                        raise self._too_large()
                    body += part
            yield bytes(body)
        finally:
            self._budget.give(taken)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit} bytes")
