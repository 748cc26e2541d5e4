"""The verifier of tokens, and an issuer that is not to be had."""

from __future__ import annotations

import asyncio
from pathlib import Path

import jwt
import pytest
from structlog.testing import capture_logs

from poseline_service.errors import AuthorityUnavailable
from poseline_service.principals import Allowance
from poseline_service.tokens import TokenVerifier


@pytest.mark.parametrize("published", [None, "[]", "{", '{"keys": []}'])
async def test_an_issuer_that_fails_is_not_asked_by_every_caller(tmp_path: Path, published: str | None) -> None:
    source = tmp_path / "jwks.json"
    if published is not None:
        source.write_text(published)
    verifier = TokenVerifier(str(source), "https://issuer.example", "poseline", Allowance())
    bogus = jwt.encode({"sub": "eve"}, "a secret that is long enough for it", headers={"kid": "one"})
    with capture_logs() as logged:
        told = await asyncio.gather(*(verifier.find(bogus) for _ in range(10)), return_exceptions=True)
        with pytest.raises(AuthorityUnavailable) as refused:
            await verifier.find(bogus)
    assert [type(one) for one in told] == [AuthorityUnavailable] * 10
    assert [one["event"] for one in logged] == ["issuer_keys_unavailable"]
    assert 20 < refused.value.retry_after <= 30
