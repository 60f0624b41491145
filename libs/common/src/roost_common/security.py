"""Who asks: access tokens (EdDSA JWT), signed by broker and verified offline by everybody."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import OKPAlgorithm

from roost_common.clock import Clock
from roost_common.errors import Forbidden, Unauthenticated

ISSUER: Final = "roost"
AUDIENCE: Final = "roost-api"
ALGORITHM: Final = "EdDSA"
VERIFIED_KEPT: Final = 10_000
"""Tokens whose verification is remembered: clients send the same one with every request."""
REFRESH_MIN_S: Final = 5.0
"""At most one look for new keys in this time, whatever tokens strangers send."""


class Role(StrEnum):
    """What somebody may do everywhere."""

    ADMIN = "admin"
    USER = "user"


@dataclass(frozen=True)
class Identity:
    """Who asks."""

    id: UUID
    name: str
    roles: frozenset[Role]
    groups: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether everything is theirs to see and change."""
        return Role.ADMIN in self.roles

    def require_admin(self) -> None:
        """Raises `Forbidden` for everybody else."""
        if not self.is_admin:
            raise Forbidden("auth.admin-only", "Only an administrator may do this.")


def new_signing_key() -> bytes:
    """A fresh Ed25519 private key as PEM."""
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


class TokenSigner:
    """Broker's side: makes access tokens and publishes the key that verifies them."""

    def __init__(self, private_key_pem: bytes, clock: Clock, *, lifetime: timedelta) -> None:
        key = load_pem_private_key(private_key_pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("the signing key is not an Ed25519 key")
        self._key = key
        self._clock = clock
        self.lifetime = lifetime
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = hashlib.sha256(public).hexdigest()[:16]

    @classmethod
    def from_file(cls, path: Path, clock: Clock, *, lifetime: timedelta) -> TokenSigner:
        """Reads the key; a missing file is an OSError that ends the start."""
        return cls(path.read_bytes(), clock, lifetime=lifetime)

    def sign(self, identity: Identity) -> str:
        """A bearer token for ``lifetime``."""
        now = self._clock.now()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(identity.id),
            "name": identity.name,
            "roles": sorted(identity.roles),
            "groups": sorted(identity.groups),
            "iat": now,
            "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self.key_id})

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        key = json.loads(OKPAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**key, "kid": self.key_id, "use": "sig", "alg": ALGORITHM}]}


KeySource = Callable[[], Awaitable[dict[str, Any]]]
"""Gets the present key set; raises `Unavailable` when it cannot."""


class TokenVerifier:
    """Everybody's side: knows broker's public keys and checks tokens without asking again."""

    def __init__(self, source: KeySource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self._verified: dict[str, tuple[Identity, float]] = {}

    async def verify(self, token: str) -> Identity:
        """Who the token speaks for. Raises `Unauthenticated` for any other token."""
        known = self._verified.get(token)
        if known is not None and self._clock.now().timestamp() < known[1]:
            return known[0]
        identity, expires_at = await self._check(token)
        if len(self._verified) >= VERIFIED_KEPT:
            self._verified.clear()
        self._verified[token] = (identity, expires_at)
        return identity

    async def _check(self, token: str) -> tuple[Identity, float]:
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
            identity = Identity(
                id=UUID(claims["sub"]),
                name=claims["name"],
                roles=frozenset(Role(role) for role in claims["roles"]),
                groups=frozenset(claims["groups"]),
            )
            return identity, float(claims["exp"])
        except (jwt.PyJWTError, KeyError, ValueError):
            raise Unauthenticated("auth.token-invalid", "The token is not valid.") from None

    async def _key(self, key_id: str) -> jwt.PyJWK:
        if key_id not in self._keys:
            async with self._refreshing:
                recently = self._clock.monotonic() - self._refreshed_at < REFRESH_MIN_S
                if key_id not in self._keys and not (recently and self._keys):
                    keys = await self._source()
                    self._keys = {key["kid"]: jwt.PyJWK(key) for key in keys["keys"]}
                    self._refreshed_at = self._clock.monotonic()
        return self._keys[key_id]
