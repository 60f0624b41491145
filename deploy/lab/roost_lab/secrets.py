"""Passwords and keys of the lab: made once, one a file that its owner alone may read."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Secrets:
    """The secrets in one directory; asking for one makes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def password_file(self, name: str) -> Path:
        """The file with a password of this name."""
        path = self._directory / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(18))
        return path

    def password(self, name: str) -> str:
        """A password of this name."""
        return self.password_file(name).read_text().strip()

    def sealing_key_file(self, name: str) -> Path:
        """The key with which a service seals what it keeps for others: base64 of 32 bytes."""
        path = self._directory / name
        if not path.exists():
            write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() + "\n")
        return path

    def signing_key_file(self) -> Path:
        """The Ed25519 key with which broker signs access tokens, PEM."""
        path = self._directory / "signing-key.pem"
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_private(path, pem.decode())
        return path


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)
