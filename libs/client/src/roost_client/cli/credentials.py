"""The token file: who is logged in where, readable by its owner alone.

``$XDG_STATE_HOME/roost/tokens.json`` (XDG Base Directory Specification 0.8; without the variable
``~/.local/state``). A token is kept with the address that gave it and is sent nowhere else.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from roost_client import RoostClientError


@dataclass(frozen=True)
class Login:
    """One account at one Roost."""

    url: str
    user: str
    token: str
    expires_at: float
    """Seconds since the epoch."""
    ca: str | None = None

    @property
    def expired(self) -> bool:
        """Whether the token is worth nothing any more."""
        return time.time() >= self.expires_at


def token_file() -> Path:
    """Where the file is, or would be."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "roost" / "tokens.json"


class TokenFile:
    """The logins, the last one first."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or token_file()

    def find(self, url: str | None) -> Login | None:
        """The login at ``url``, or without it the last one."""
        return next((login for login in self._read() if url in (None, login.url)), None)

    def keep(self, login: Login) -> None:
        """Remember it, in the place of an earlier one there."""
        self._write([login, *(old for old in self._read() if old.url != login.url)])

    def forget(self, url: str) -> bool:
        """Drop the login at ``url``; whether there was one."""
        before = self._read()
        after = [login for login in before if login.url != url]
        if len(after) == len(before):
            return False
        self._write(after)
        return True

    def _read(self) -> list[Login]:
        try:
            return [Login(**entry) for entry in json.loads(self.path.read_text())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise RoostClientError(
                "client.token-file-unreadable",
                f"{self.path} cannot be read: {error}. Remove it and log in again.",
            ) from error

    def _write(self, logins: list[Login]) -> None:
        """Whole or not at all, and never readable by others, not even for a moment."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes the file with mode 0600.
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".tokens-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump([asdict(login) for login in logins], file, indent=1)
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise RoostClientError(
                "client.token-file-unwritable", f"{self.path} cannot be written: {error}."
            ) from error
