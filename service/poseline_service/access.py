"""The door's keeper: who comes, whether they may, from which page, and how much of it.

Every route says which scope it asks for (`needs`, `anybody`); one that says nothing keeps the server from starting. Callers
show an API key or a JSON Web Token as a bearer; browsers, which can give a WebSocket no header, buy a ticket first. Where
neither keys nor an issuer are set, everybody is let in, and the server listens to nobody but its own machine: then a web
page from elsewhere is the one stranger left, and told by `Origin` and `Host`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from secrets import token_urlsafe
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant

from poseline.errors import InputError, PoselineError
from poseline_service.errors import ForbiddenHost, ForbiddenOrigin, TokenExpired, Unauthorized
from poseline_service.keys import KeyRing, is_key
from poseline_service.logging import log
from poseline_service.metrics import Metrics
from poseline_service.principals import EVERYBODY, Account, Allowance, Principal, Scope
from poseline_service.settings import ServiceSettings, is_loopback
from poseline_service.states import StateStore
from poseline_service.tokens import TokenVerifier

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
TICKET_SECONDS = 60.0
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d+)?")
"""A name or an address, and perhaps a port."""
_LOOK_SECONDS = 2.0
"""Between two looks at the file of keys."""
_MANY_ACCOUNTS = 4096
"""Accounts at which those are forgotten whose owners have taken nothing lately."""


class Access:
    """One server's doorkeeper. Raises InputError for a file of keys that cannot be used."""

    def __init__(self, settings: ServiceSettings, store: StateStore, metrics: Metrics) -> None:
        allowance = Allowance(settings.key_sessions, settings.key_requests_per_minute, jobs=settings.key_jobs)
        self._keys = KeyRing(settings.keys, allowance) if settings.keys else None
        self._tokens = None
        if settings.jwks is not None:
            assert settings.jwt_issuer is not None  # the settings see to that
            assert settings.jwt_audience is not None
            self._tokens = TokenVerifier(settings.jwks, settings.jwt_issuer, settings.jwt_audience, allowance)
        self._origins = frozenset(settings.origins)
        self._hosts = {"localhost", *(urlsplit(origin).hostname for origin in settings.origins)}
        self._store = store
        self._denials = metrics.denials
        self._accounts: dict[str, Account] = {}
        self._looked_at = monotonic()

    @property
    def open(self) -> bool:
        """Nobody is asked who they are."""
        return self._keys is None and self._tokens is None

    def tick(self, now: float) -> None:
        """To be called now and then, with the monotonic clock."""
        if self._keys is not None and now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            try:
                if self._keys.refresh():
                    log.info("keys_read")
            except InputError as error:  # who was let in stays so: a slip of the pen must not lock everybody out
                log.error("keys_refused", detail=error.detail)

    # --- who ------------------------------------------------------------------------------------------------------

    async def admit(self, headers: Mapping[str, str], scope: str | None, ticket: str | None = None) -> Principal:
        """Who comes, if they may: one request of theirs. Raises Unauthorized, TokenExpired, ForbiddenScope, ForbiddenOrigin,
        ForbiddenHost, RateLimited, AuthorityUnavailable, StoreUnavailable."""
        try:
            self.check_origin(headers.get("origin"), headers.get("host", ""))
            principal = await self._identify(headers.get("authorization"), ticket)
            principal.check(scope)
            self.account(principal).request()
        except PoselineError as error:
            self._denials.labels(error.code).inc()
            log.info("denied", code=error.code, scope=scope)
            raise
        return principal

    async def _identify(self, authorization: str | None, ticket: str | None) -> Principal:
        if self.open:
            return EVERYBODY
        if authorization is None:
            if ticket is None:
                raise Unauthorized("bring an API key or a token: Authorization: Bearer …")
            return self._current(await self._redeem(ticket))
        kind, _, credential = authorization.partition(" ")
        credential = credential.strip()
        if kind.lower() != "bearer" or not credential:
            raise Unauthorized("the Authorization header is not `Bearer` with an API key or a token")
        if is_key(credential) and self._keys is not None:
            return self._keys.find(credential)
        if self._tokens is not None and not is_key(credential):
            return await self._tokens.find(credential)
        raise Unauthorized("credentials of this kind are not known here")

    def _current(self, principal: Principal) -> Principal:
        """As it stands now: a key may have been withdrawn, or may something else. Raises Unauthorized, TokenExpired."""
        if self._keys is not None and principal.fingerprint:
            if not self._keys.knows(principal):
                raise TokenExpired("this key was withdrawn")
            principal = self._keys.current(principal)
        return principal

    def check_still(self, principal: Principal, scope: Scope) -> None:
        """Whether somebody who was let in may stay. Raises TokenExpired, ForbiddenScope."""
        self._current(principal).check(scope)

    # --- tickets --------------------------------------------------------------------------------------------------

    async def sell(self, principal: Principal) -> str:
        """A ticket that stands for this caller once. Raises StoreUnavailable."""
        ticket = token_urlsafe(32)
        await self._store.put(f"ticket:{ticket}", msgspec.msgpack.encode(principal), TICKET_SECONDS)
        return ticket

    async def _redeem(self, ticket: str) -> Principal:
        found = await self._store.take(f"ticket:{ticket}")
        if found is None:
            raise Unauthorized("this ticket is used, too old, or was never one")
        return msgspec.msgpack.decode(found, type=Principal)

    # --- from where -----------------------------------------------------------------------------------------------

    def check_origin(self, origin: str | None, host: str) -> None:
        """Raises ForbiddenOrigin, ForbiddenHost."""
        if self.open and not self._is_ours(host):  # a name of somebody else's that leads here: DNS rebinding
            raise ForbiddenHost("a server without keys answers to its own machine's names alone")
        if origin is None or origin in self._origins or origin in (f"http://{host}", f"https://{host}"):
            return
        raise ForbiddenOrigin(
            "pages of this origin may not speak to this server; POSELINE_ORIGINS names those that may"
        )

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        name = match[1].strip("[]").lower() if match else ""
        return name in self._hosts or is_loopback(name)

    # --- how much -------------------------------------------------------------------------------------------------

    def account(self, principal: Principal) -> Account:
        known = self._accounts.get(principal.owner)
        if known is None:
            if len(self._accounts) >= _MANY_ACCOUNTS:
                self._accounts = {owner: one for owner, one in self._accounts.items() if not one.idle}
            known = self._accounts[principal.owner] = Account(principal.allowance)
        elif known.allowance != principal.allowance:
            known.change(principal.allowance)
        return known


_SAYS = "says_who_may_call"
"""Marks what `needs` and `anybody` make."""


# --- what routes say -------------------------------------------------------------------------------------------------


def needs(scope: Scope | None) -> Any:
    """A route's dependency: its callers are known, and have this scope; None: any. They are `request.state.principal`."""

    async def let_in(request: Request) -> None:
        request.state.principal = await request.app.state.runtime.access.admit(request.headers, scope)

    return _declared(let_in)


def anybody() -> Any:
    """A route's dependency: nobody is asked who they are."""

    async def let_in(request: Request) -> None:
        request.state.principal = None

    return _declared(let_in)


def _declared(let_in: Callable[..., Any]) -> Any:
    setattr(let_in, _SAYS, True)
    return Depends(let_in)


def everybody(endpoint: Endpoint) -> Endpoint:
    """A page or a file: nobody is asked who they are."""
    setattr(endpoint, _SAYS, True)
    return endpoint


def every_route(app: FastAPI) -> Iterator[Any]:
    """All that is served over HTTP, those of included routers too: each has `path`, `methods`, and `dependant` where it is
    a route of FastAPI's."""
    for route in app.routes:
        inner = getattr(route, "effective_route_contexts", None)  # FastAPI keeps included routers as they are
        yield from [route] if inner is None else inner()


def check_declared(app: FastAPI) -> None:
    """Every route says who may call it, or the server does not start."""
    for route in every_route(app):
        dependant: Dependant | None = getattr(route, "dependant", None)
        calls = [one.call for one in dependant.dependencies] if dependant else [getattr(route, "endpoint", None)]
        if not any(hasattr(call, _SAYS) for call in calls):
            raise AssertionError(f"{route.path} does not say who may call it")


def rate_headers(account: Account) -> dict[str, str]:
    """`RateLimit` and its policy (draft-ietf-httpapi-ratelimit-headers), where there is a limit."""
    bucket = account.requests
    if bucket is None:
        return {}
    bucket.take(0)
    policy = f'"requests";q={bucket.capacity:g};w={bucket.seconds:g}'
    return {"RateLimit-Policy": policy, "RateLimit": f'"requests";r={int(bucket.level)};t={bucket.seconds:g}'}
