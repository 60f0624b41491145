"""Who asks: access tokens, and broker's keys to check them with."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
from fastapi import Depends, Header, Request

from roost_common.errors import Unauthenticated, Unavailable
from roost_common.security import Identity, KeySource, TokenVerifier


async def identity(
    request: Request, authorization: Annotated[str | None, Header()] = None
) -> Identity:
    """The bearer of the access token. Raises `Unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("auth.required", "A bearer token is needed.")
    verifier: TokenVerifier = request.app.state.verifier
    return await verifier.verify(token.strip())


async def administrator(who: Annotated[Identity, Depends(identity)]) -> Identity:
    """The same, and it must be an administrator. Raises `Forbidden`."""
    who.require_admin()
    return who


Caller = Annotated[Identity, Depends(identity)]
Admin = Annotated[Identity, Depends(administrator)]


def keys_from(url: str) -> KeySource:
    """Broker's key set over HTTP."""

    async def fetch() -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                answer = await client.get(url)
                answer.raise_for_status()
                keys: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "auth.keys-unavailable", "Broker's keys cannot be read now.", retry_after_s=2
            ) from error
        return keys

    return fetch
