"""One try to serve one launch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from roost_broker.launch import Client, Granted, Place, Queued
from roost_broker.model import Launch, LaunchState
from roost_broker.repository.identities import Known
from roost_broker.repository.pools import LaunchPool

RESTART_LOOK_MS: Final = 1000
"""When to ask again for a desktop whose host has failed: a restart takes seconds."""


def columns(client: Client) -> dict[str, Any]:
    """What is kept of the machine in front of the user."""
    return {
        "client_name": client.name,
        "client_address": client.address,
        "monitors": client.monitors,
        "fullscreen": client.fullscreen,
        "thin_link": client.thin_link,
    }


@dataclass(frozen=True)
class Attempt:
    """Who wants what of which pool; ``launch`` is the row where there is one already."""

    user: Known
    pool: LaunchPool
    client: Client
    reason: str
    new: bool
    launch_id: UUID
    launch: Launch | None

    def granted(self, session_id: UUID, place: Place) -> Granted:
        """It has a desktop."""
        return Granted(
            launch_id=self.launch_id,
            session_id=session_id,
            place=place,
            pool=self.pool.name,
            reason=self.reason,
            usb=self.pool.usb,
            client=self.client,
        )

    def awaited(self) -> Queued:
        """Its desktop is being started again; nobody else's turn comes before."""
        return Queued(
            launch_id=self.launch_id,
            pool_id=self.pool.id,
            number=0,
            starting=True,
            position=1,
            retry_after_ms=RESTART_LOOK_MS,
        )

    def row(self, state: LaunchState, session_id: UUID | None, now: datetime) -> dict[str, Any]:
        """The row to be kept of it."""
        return {
            "id": self.launch_id,
            "user_id": self.user.id,
            "pool_id": self.pool.id,
            "state": state.value,
            "wants_new": self.new,
            "session_id": session_id,
            "reason": self.reason,
            **columns(self.client),
            "created_at": now,
            "polled_at": now,
        }
