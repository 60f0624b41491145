"""Log-on and keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from roost_broker.api.parts import Caller, Parts, address
from roost_broker.repository.identities import Identities
from roost_broker.schemas import Me, Token

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])


@router.post("/token", summary="Name and password for an access token")
async def token(
    *,
    request: Request,
    response: Response,
    parts: Parts,
    username: Annotated[str, Form(min_length=1, max_length=64, pattern=r"^[^\x00]*$")],
    password: Annotated[str, Form(max_length=256)],
    grant_type: Annotated[str, Form(pattern="^(password)?$")] = "password",
    scope: Annotated[str, Form(max_length=255)] = "",
    client_id: Annotated[str, Form(max_length=255)] = "",
    client_secret: Annotated[str, Form(max_length=255)] = "",
) -> Token:
    """OAuth2's password grant (RFC 6749, section 4.3)."""
    del grant_type, scope, client_id, client_secret  # accepted, because standard clients send them
    identity = await parts.login.authenticate(username, password, address(request))
    response.headers["Cache-Control"] = "no-store"
    return Token(
        access_token=parts.signer.sign(identity),
        expires_in=int(parts.signer.lifetime.total_seconds()),
    )


@router.get("/me", summary="Who am I")
async def me(parts: Parts, who: Caller) -> Me:
    """Name, roles and groups as they are now."""
    async with parts.unit_of_work() as transaction:
        user = await Identities(transaction.session).user(str(who.id))
    return Me(
        id=who.id,
        name=who.name,
        full_name=user.full_name,
        roles=sorted(who.roles),
        groups=sorted(who.groups),
    )


@router.get("/jwks", summary="The keys that verify access tokens")
async def jwks(parts: Parts, response: Response) -> dict[str, Any]:
    """A JSON Web Key Set (RFC 7517)."""
    response.headers["Cache-Control"] = "public, max-age=60"
    return parts.signer.jwks()
