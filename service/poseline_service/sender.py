"""One attempt to deliver an event: the name is looked up, every address is checked, and a checked one is connected to.

Nothing asks the resolver a second time, so an answer that changes between check and connection changes nothing (DNS
rebinding). TLS still proves the name. Redirects are an answer like any other that is not 2xx; proxies of the environment are
not used; of what a target answers no more than a little is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from ipaddress import ip_address
from time import time

import httpx

from poseline.webhooks import CONTENT_TYPE, sign
from poseline_service.deliveries import Delivery
from poseline_service.targets import Target, is_public

_READ = 16 * 1024
"""Bytes of an answer that are read, so that its connection can be used again; a longer one's is closed."""

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) → addresses. Raises OSError."""


def lookup_in(executor: Executor) -> Lookup:
    """The system's resolver, in threads of its own: a name server that does not answer must not hold up others' work."""

    async def lookup(host: str, port: int) -> list[str]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(executor, ask)
        return list(dict.fromkeys(str(one[4][0]) for one in found))

    return lookup


class DeliveryFailed(Exception):
    """outcome: for the metric: forbidden, unreachable, timeout or refused."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


class Sender:
    """The way to one target: connections to it are no other target's. timeout: seconds for one attempt, all in all."""

    def __init__(self, target: Target, lookup: Lookup, context: ssl.SSLContext, timeout: float) -> None:
        self._target = target
        self._lookup = lookup
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            verify=context, trust_env=False, follow_redirects=False, timeout=timeout, headers={"User-Agent": "poseline"}
        )

    async def send(self, delivery: Delivery) -> None:
        """Raises DeliveryFailed."""
        try:
            async with asyncio.timeout(self._timeout):
                status = await self._reach(delivery)
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryFailed("timeout", f"no answer came within {self._timeout:g} seconds") from None
        except (OSError, httpx.TransportError, UnicodeError) as error:
            raise DeliveryFailed("unreachable", type(error).__name__) from None
        if not 200 <= status < 300:
            raise DeliveryFailed("refused", f"the answer was {status}")

    async def _reach(self, delivery: Delivery) -> int:
        """The answer's status, from the first address that can be connected to."""
        addresses = await self._addresses()
        for address in addresses[:-1]:
            try:
                return await self._post(address, delivery)
            except httpx.ConnectError:
                pass
        return await self._post(addresses[-1], delivery)

    async def _addresses(self) -> list[str]:
        url = self._target.url
        found = await self._lookup(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not self._target.allow_private and not all(is_public(ip_address(one.partition("%")[0])) for one in found):
            raise DeliveryFailed("forbidden", "the name leads to an address that is not public")
        return found

    async def _post(self, address: str, delivery: Delivery) -> int:
        url, stamp = self._target.url, int(time())
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": CONTENT_TYPE,
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(self._target.secret, delivery.event_id, stamp, delivery.body),
        }
        named = {"sni_hostname": url.host} if url.scheme == "https" else {}
        there = url.copy_with(host=address)
        async with self._client.stream(
            "POST", there, content=delivery.body, headers=headers, extensions=named
        ) as answer:
            left = _READ
            async for part in answer.aiter_raw():
                if (left := left - len(part)) < 0:
                    break
            return answer.status_code

    async def close(self) -> None:
        await self._client.aclose()
