"""Clusters, and what their policies remember of hosts and moves."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.errors import Conflict
from roost_inventory.load import Sample, mean, with_sample
from roost_inventory.model.base import Base, Json
from roost_inventory.scheduling import Load, Scheduling

DEFAULT_ID: Final = UUID("00000000-0000-4000-8000-000000000001")
"""Of the cluster that is always there; a host belongs to it until it is given to another."""
DEFAULT_NAME: Final = "default"


class Cluster(Base):
    """Hosts between which desktops may move, and the policy by which they do."""

    __tablename__ = "clusters"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    description: Mapped[str] = mapped_column(String(1024))
    scheduling: Mapped[Scheduling] = mapped_column(Json(Scheduling))
    created_at: Mapped[datetime]

    @classmethod
    def create(cls, name: str, description: str, scheduling: Scheduling, now: datetime) -> Cluster:
        """A new one, without hosts."""
        return cls(
            id=uuid4(), name=name, description=description, scheduling=scheduling, created_at=now
        )

    def rename(self, name: str) -> None:
        """Raises `Conflict` for the default one: scripts and new hosts rely on its name."""
        if name != self.name and self.id == DEFAULT_ID:
            raise Conflict("cluster.default", "The default cluster keeps its name.")
        self.name = name

    def require_removable(self, hosts: int) -> None:
        """Raises `Conflict` while it has hosts, and for the default one."""
        if self.id == DEFAULT_ID:
            raise Conflict("cluster.default", "The default cluster stays.")
        if hosts:
            raise Conflict(
                "cluster.has-hosts", "{cluster} has {n} hosts.", cluster=self.name, n=hosts
            )


class HostWatch(Base):
    """What the balancer has seen of a host, one pass after the other; nobody else writes it."""

    __tablename__ = "host_watches"

    host_id: Mapped[UUID] = mapped_column(
        ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True
    )
    samples: Mapped[tuple[Sample, ...]] = mapped_column(Json(tuple[Sample, ...]))
    """The oldest first."""
    changed_at: Mapped[datetime | None]
    """When a desktop was last on its way from it or to it: samples of before say nothing."""
    awake_since: Mapped[datetime | None]
    empty_since: Mapped[datetime | None]
    emptied_at: Mapped[datetime | None]
    """When power saving last moved a desktop off it."""
    put_to_sleep: Mapped[bool]
    """By power saving: woken when that ends."""

    @classmethod
    def begun(cls, host_id: UUID) -> HostWatch:
        """For a host seen for the first time."""
        return cls(
            host_id=host_id,
            samples=(),
            changed_at=None,
            awake_since=None,
            empty_since=None,
            emptied_at=None,
            put_to_sleep=False,
        )

    def see(
        self,
        now: datetime,
        *,
        awake: bool,
        empty: bool,
        moving: bool,
        sample: Sample,
        duration_s: float,
    ) -> None:
        """Take one look in. ``sample`` is the host's last; one that is known changes nothing."""
        if not awake:
            self.awake_since, self.samples = None, ()
        elif self.awake_since is None:
            self.awake_since, self.put_to_sleep = now, False
        if not empty:
            self.empty_since = None
        elif self.empty_since is None:
            self.empty_since = now
        if moving:
            self.changed_at = now
        # What it said before it went away is over, too.
        if self.awake_since is None or sample.at < self.awake_since:
            return
        if not self.samples or sample.at > self.samples[-1].at:
            self.samples = with_sample(self.samples, sample, duration_s)

    def load(self, now: datetime, duration_s: float) -> Load | None:
        """How busy it was."""
        return mean(self.samples, now, duration_s, self.changed_at)
