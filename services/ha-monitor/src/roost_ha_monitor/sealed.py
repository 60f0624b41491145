"""Secrets at rest: what stands in the database is of no use to who reads it or its backups.

The keys are in a file, one a line, each 32 random bytes in base64 (``openssl rand -base64 32``).
The first seals; all of them open, so that a new key can be put in front of an old one and every
copy given the file before the old one is taken out. Sealing is Fernet's: AES-128-CBC with
HMAC-SHA256 (https://github.com/fernet/spec).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from roost_common.errors import Conflict, Unavailable


class Sealer:
    """Seals and opens with a site's keys; without any it refuses both."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises ValueError for what is no key."""
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    @classmethod
    def from_file(cls, path: Path | None) -> Sealer:
        """The keys in ``path``; none without a path.

        Raises OSError when it cannot be read and ValueError when it holds no key: a service that
        was told where its keys are does not start without them.
        """
        if path is None:
            return cls([])
        lines = (line.strip() for line in path.read_text(encoding="ascii").splitlines())
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ValueError(f"{path} holds no key")
        return cls(keys)

    def seal(self, secret: bytes) -> bytes:
        """Raises `Conflict` (``secrets.no-key``) on a site that has no key."""
        return self._keys().encrypt(secret)

    def unseal(self, sealed: bytes) -> bytes:
        """Raises `Conflict` (``secrets.no-key``) and `Unavailable` (``secrets.unreadable``)."""
        try:
            return self._keys().decrypt(sealed)
        except InvalidToken:
            raise Unavailable(
                "secrets.unreadable", "A secret was sealed with a key that is not here."
            ) from None

    def _keys(self) -> MultiFernet:
        if self._fernet is None:
            raise Conflict(
                "secrets.no-key", "This site has no key for secrets: set secret_key_file."
            )
        return self._fernet
