"""The public face: one Roost and everything in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from roost_client._collection import Collection, JsonObject, follow
from roost_client._errors import NotUnderstood
from roost_client._launch import Place, Ticket, Wish, launch
from roost_client._transport import Transport, body

ASKS_OTHERS_S: Final = 90.0
"""For an answer that waits for fence devices or mail servers, each with its own time limit."""


@dataclass(frozen=True)
class Account:
    """An access token and how long it is good for, in seconds."""

    token: str
    expires_in_s: float


class Roost:
    """A client of the Roost at ``url``; ``ca`` is a file of certificates to trust instead of the
    system's. Every call raises `RoostClientError`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._transport = Transport(url, token=token, ca=ca, timeout_s=timeout_s)
        self.desktops = Collection(self._transport, "/desktops")
        self.hosts = Collection(self._transport, "/hosts")
        self.migrations = Collection(self._transport, "/migrations")
        self.pools = Collection(self._transport, "/pools")
        self.templates = Collection(self._transport, "/templates")
        self.sessions = Collection(self._transport, "/sessions")
        self.users = Collection(self._transport, "/users")
        self.groups = Collection(self._transport, "/groups")
        self.storage = Collection(self._transport, "/storage")
        self.jobs = Collection(self._transport, "/jobs")
        self.ha_hosts = Collection(self._transport, "/ha/hosts")
        self.alerts = Collection(self._transport, "/ha/alerts")
        self.incidents = Collection(self._transport, "/ha/incidents")
        self.fencing = Collection(self._transport, "/ha/fencing", answer_within_s=ASKS_OTHERS_S)
        self.channels = Collection(self._transport, "/ha/channels", answer_within_s=ASKS_OTHERS_S)
        self.notifications = Collection(self._transport, "/ha/notifications")

    def __enter__(self) -> Roost:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._transport.close()

    def log_in(self, user: str, password: str) -> Account:
        """Get an access token and use it from now on. Raises `NotAuthenticated`, `TooMany`."""
        form = {"grant_type": "password", "username": user, "password": password}
        self._transport.token = None
        said = body(self._transport.request("POST", "/auth/token", form=form))
        if not said.get("access_token"):
            raise NotUnderstood("client.answer-odd", "The server gave no access token.")
        self._transport.token = str(said["access_token"])
        return Account(self._transport.token, float(said.get("expires_in", 0)))

    def me(self) -> JsonObject:
        """Who the token speaks for: name, roles, groups."""
        return body(self._transport.request("GET", "/auth/me"))

    def my_desktops(self) -> list[JsonObject]:
        """What this user may open, each with ``kind`` (pool or desktop) and ``name``."""
        said = self._transport.request("GET", "/me/desktops").json()
        if not isinstance(said, list):
            raise NotUnderstood("client.answer-odd", "/me/desktops answered with no list.")
        return said

    def launch(
        self,
        wish: Wish,
        *,
        wait_s: float = 300.0,
        on_place: Callable[[Place], None] = lambda _place: None,
    ) -> Ticket:
        """Open a desktop; ``on_place`` hears of the place in the queue while it is not ready."""
        return launch(self._transport, wish, wait_s, on_place)

    def follow(self, location: str, *, wait_s: float = 3600.0) -> Iterator[JsonObject]:
        """The states of long work (see `Accepted.location`), until it is done."""
        return follow(self._transport, location, wait_s)

    def ha_leader(self) -> JsonObject:
        """Which copy of ha-monitor decides."""
        return body(self._transport.request("GET", "/ha/leader"))

    def ha_disarm(self, reason: str) -> JsonObject:
        """Nobody is fenced until `ha_arm`."""
        return body(self._transport.request("POST", "/ha/disarm", json={"reason": reason}))

    def ha_arm(self) -> JsonObject:
        """High availability acts again."""
        return body(self._transport.request("POST", "/ha/arm"))
