"""A host as it was last said to be."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.host import (
    Health,
    HealthFact,
    HostDown,
    HostPoweredOff,
    HostPoweredOn,
    HostRecovered,
    HostSuspected,
    HostUp,
)
from roost_common.errors import Conflict
from roost_ha_monitor.lease_watch import Written
from roost_ha_monitor.model.base import Base

_FACTS: dict[Health, type[HealthFact]] = {
    Health.UP: HostUp,
    Health.SUSPECTED: HostSuspected,
    Health.DOWN: HostDown,
    Health.RECOVERED: HostRecovered,
}


class Host(Base):
    """A node that has beaten; what the bus was last told of its health."""

    __tablename__ = "hosts"

    node: Mapped[str] = mapped_column(sa.String(253), primary_key=True)
    health: Mapped[Health | None] = mapped_column(
        sa.Enum(
            Health, native_enum=False, length=16, values_callable=lambda e: [m.value for m in e]
        )
    )
    """None once an administrator removed it. The row stays, so that the sequence goes on should
    the node come back."""
    sequence: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    since: Mapped[datetime]
    reason: Mapped[str] = mapped_column(sa.Text)
    probation: Mapped[bool] = mapped_column(default=False)
    libvirt: Mapped[bool] = mapped_column(default=True)
    last_beat_at: Mapped[datetime | None]
    agent_id: Mapped[UUID | None]
    """The last run of its agent that was heard by who decided."""
    address: Mapped[str] = mapped_column(sa.String(255), default="")
    armed: Mapped[bool] = mapped_column(default=False)
    """Armed grants may have been sent to it, and no unarmed one since: changed *before* they
    are, either way (`granting`)."""
    armed_sequence: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """See `lease_watch.Written`."""
    waking: Mapped[bool] = mapped_column(default=False)
    """It is off and was switched on."""
    spared_until: Mapped[datetime | None]
    """Until then it has time to come back (`detector.State.spared_until`)."""
    maintained: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """It is in maintenance: inventory has no desktop on it and gives it none."""
    decided_at: Mapped[datetime | None]
    """When that was decided; what was decided earlier comes too late."""

    def change(
        self, health: Health, sequence: int, since: datetime, reason: str, *, probation: bool
    ) -> HealthFact:
        """Its health changes; returns the event that says so.

        Raises `Conflict` (``ha.overtaken``) when somebody else changed it first.
        """
        if sequence != self.sequence + 1:
            raise Conflict("ha.overtaken", "Another copy changed {node} first.", node=self.node)
        self.health, self.sequence, self.since, self.reason = health, sequence, since, reason
        self.probation, self.waking = probation, False
        return _FACTS[health](node=self.node, sequence=sequence, since=since, reason=reason)

    @property
    def written(self) -> Written:
        """What is written of its lease."""
        return Written(self.armed, self.agent_id, self.armed_sequence)

    def spared(self, now: datetime) -> bool:
        """Whether it still has time to come back. How long at most, whatever the clock said of who
        wrote it, is seen to by who watches it."""
        return self.spared_until is not None and now < self.spared_until

    def decided(self, at: datetime, *, maintained: bool) -> bool:
        """It is taken out of service, or put back; an earlier decision changes nothing. Whether
        anything has changed."""
        before = self.maintained
        if self.decided_at is None or self.decided_at < at:
            self.maintained, self.decided_at = maintained, at
        return self.maintained is not before

    def remove(self, now: datetime, by: str) -> None:
        """Watch it no more. Raises `Conflict` (``ha.host-beats``) while it beats.

        The sequence grows although no event is sent: the copy that decides notices by it that it
        was overtaken.
        """
        if self.health in (Health.UP, Health.RECOVERED):
            raise Conflict(
                "ha.host-beats",
                "The agent of {node} still beats; stop it before removing the host.",
                node=self.node,
            )
        self.health = None
        self.sequence += 1
        self.since, self.reason, self.probation = now, f"Removed by {by}.", False
        self.waking, self.armed = False, False

    def switched_off(self, now: datetime, reason: str) -> HostPoweredOff:
        """It is off on purpose, and proven to be."""
        self.health, self.probation, self.waking = Health.OFF, False, False
        self._next(now, reason)
        return HostPoweredOff(node=self.node, sequence=self.sequence, since=now, reason=self.reason)

    def switched_on(self, now: datetime, reason: str) -> HostPoweredOn:
        """Its device says that it is on; what it is otherwise, its beats will tell."""
        self.waking = self.health is Health.OFF
        self._next(now, reason)
        return HostPoweredOn(node=self.node, sequence=self.sequence, since=now, reason=self.reason)

    def _next(self, now: datetime, reason: str) -> None:
        self.sequence += 1
        self.since, self.reason = now, reason
