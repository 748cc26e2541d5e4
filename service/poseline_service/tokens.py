"""JSON Web Tokens (RFC 7519) of one issuer, checked by the keys that it publishes (JWKS, RFC 7517). The only door to `jwt`.

Only signatures that the issuer alone can make are taken: with a shared secret, whoever could check a token could also make
one. The issuer's keys come from a file or by HTTPS; they are asked for again when a token names one that is not known, but
not at every such token, for anybody can make those up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import jwt
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from poseline_service.errors import AuthorityUnavailable, TokenExpired, Unauthorized
from poseline_service.logging import log
from poseline_service.principals import SCOPES, Allowance, Principal

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEEWAY = 30.0
"""Seconds that two clocks may differ by."""
_ASK_AGAIN = 30.0
"""Seconds after which the issuer is asked again for a key that it did not have, or at all where it failed."""
_FRESH = 3600.0
"""Seconds after which its keys are asked for anew, so that one that it has withdrawn is forgotten."""
_LARGEST = 1024 * 1024
_LONGEST_NAME = 200
_TIMEOUT = 5.0


class TokenVerifier:
    """The tokens of one issuer. source: file or https address of its keys. allowance: what their owners may have."""

    def __init__(self, source: str, issuer: str, audience: str, allowance: Allowance) -> None:
        self._source, self._issuer, self._audience = source, issuer, audience
        self._allowance = allowance
        self._keys: Mapping[str, PyJWK] = {}
        self._asked_at = -_FRESH
        self._asking = asyncio.Lock()

    async def find(self, token: str) -> Principal:
        """Raises Unauthorized, TokenExpired, AuthorityUnavailable."""
        try:
            header = jwt.get_unverified_header(token)
        except PyJWTError:
            raise Unauthorized("the token is neither a key nor a JSON Web Token") from None
        key = await self._key(str(header.get("kid", "")))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY,
                options={"require": ["exp", "sub"]},
            )
        except ExpiredSignatureError:
            raise TokenExpired("the token's time is over; bring a new one") from None
        except PyJWTError as error:
            raise Unauthorized(f"the token is not good: {error}") from None
        subject = str(claims["sub"])
        if not 0 < len(subject) <= _LONGEST_NAME:
            raise Unauthorized(f"the token's sub has {len(subject)} characters, expected 1 to {_LONGEST_NAME}")
        return Principal(f"jwt:{subject}", _scopes(claims), self._allowance, float(claims["exp"]) + _LEEWAY)

    async def _key(self, name: str) -> PyJWK:
        age = monotonic() - self._asked_at
        if age > _FRESH or (name not in self._keys and age > _ASK_AGAIN):
            async with self._asking:
                if monotonic() - self._asked_at > _ASK_AGAIN:
                    await self._ask()
        if not self._keys:
            wait = max(1.0, self._asked_at + _ASK_AGAIN - monotonic())
            raise AuthorityUnavailable("the keys that tokens are checked by cannot be had", retry_after=wait)
        if name not in self._keys:
            raise Unauthorized("the token is signed with a key that its issuer does not publish")
        return self._keys[name]

    async def _ask(self) -> None:
        """Ask the issuer for its keys; where it fails, what is known holds on."""
        try:
            found = PyJWKSet.from_json(await self._fetch())
        except (
            OSError,
            httpx.HTTPError,
            PyJWTError,
            ValueError,
            AttributeError,
        ) as error:  # the last: JSON, but no object
            log.warning("issuer_keys_unavailable", detail=str(error))
        else:
            self._keys = {key.key_id or "": key for key in found.keys if key.algorithm_name in ALGORITHMS}
        self._asked_at = monotonic()

    async def _fetch(self) -> str:
        if not self._source.startswith("https://"):
            return await asyncio.to_thread(Path(self._source).read_text)
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client, client.stream("GET", self._source) as answer:
            answer.raise_for_status()
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _LARGEST:
                    raise ValueError(f"the answer has more than {_LARGEST} bytes")
            return body.decode()


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Those of RFC 8693's `scope` (words) that are ours; the rest is other services' affair."""
    said = claims.get("scope", "")
    words = said.split() if isinstance(said, str) else []
    return frozenset(words) & frozenset(SCOPES)
