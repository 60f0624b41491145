"""The columns of a desktop: what should be, where it is, what was seen, what is waited for."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DesktopState,
    DomainState,
    Power,
    SpiceAddress,
    StopMode,
    StopReason,
)
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_inventory.model.base import Json, word
from roost_inventory.model.migration import Migration


class DesktopRow:
    """Columns only; `Desktop` has the transitions.

    New rows are made by `Desktop.create` alone, which sets every column.
    """

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    pool_id: Mapped[UUID | None]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    """Deleted desktops stay for a while, so that a late command does not bring one back."""

    # What should be.
    template: Mapped[TemplateRef] = mapped_column(Json(TemplateRef))
    spec: Mapped[DesktopSpec] = mapped_column(Json(DesktopSpec))
    power: Mapped[Power] = mapped_column(word(Power))
    power_ordered_at: Mapped[datetime]
    """When the newest power order was given: an older one that comes later is dropped."""
    stop: Mapped[StopMode] = mapped_column(word(StopMode))
    grace_s: Mapped[int]
    deleting: Mapped[bool]
    generation: Mapped[int] = mapped_column(BigInteger)
    correlation_id: Mapped[str] = mapped_column(String(64))
    """Of the request that ordered last: what the loop does for it is found under this id."""

    # Its disk.
    disk_generation: Mapped[int]
    disk_ready: Mapped[int]
    """The generation that is ready; 0 while there is none."""
    disk_path: Mapped[str | None]
    disk_gone: Mapped[bool]

    # Where it is: its assignment to a host, and what the node was told.
    host: Mapped[str | None] = mapped_column(ForeignKey("hosts.name"))
    reserved_vcpus: Mapped[int]
    reserved_memory_mib: Mapped[int]
    told: Mapped[Power] = mapped_column(word(Power))
    told_spec: Mapped[DesktopSpec | None] = mapped_column(Json(DesktopSpec))
    """The spec of this assignment: a later change waits for the next start."""
    told_stop: Mapped[StopMode] = mapped_column(word(StopMode))
    told_generation: Mapped[int] = mapped_column(BigInteger)
    told_at: Mapped[datetime | None]
    """When this generation was told first."""
    told_agent: Mapped[UUID | None]
    """The run of the node's agent to which it was told; another one drops the command."""
    assigned_generation: Mapped[int] = mapped_column(BigInteger)
    """What a node says of a lower generation speaks of an earlier assignment."""
    reachable: Mapped[bool]
    shunned: Mapped[str | None] = mapped_column(String(253))
    """The host that refused it last."""

    # Being moved: room is reserved for it on both hosts.
    migrating_to: Mapped[str | None] = mapped_column(ForeignKey("hosts.name"))
    migration_id: Mapped[UUID | None] = mapped_column(ForeignKey("migrations.id"))

    @declared_attr
    def migration(cls) -> Mapped[Migration | None]:  # noqa: N805 - called with the class
        """The migration under way, loaded with every desktop that has one."""
        return relationship(Migration, lazy="selectin")

    # What was seen of it on that host.
    seen_host: Mapped[str | None] = mapped_column(String(253))
    seen_agent: Mapped[UUID | None]
    """The run of that host's agent; None where it does not name its run."""
    seen_at: Mapped[datetime | None]
    """By the clock of that run."""
    seen_state: Mapped[DomainState | None] = mapped_column(word(DomainState))
    seen_generation: Mapped[int] = mapped_column(BigInteger)
    seen_problem: Mapped[Problem | None] = mapped_column(Json(Problem))
    boot_id: Mapped[UUID | None]
    spice: Mapped[SpiceAddress | None] = mapped_column(Json(SpiceAddress))
    up_since: Mapped[datetime | None]
    stop_reason: Mapped[StopReason] = mapped_column(word(StopReason))

    lineage: Mapped[UUID | None]
    """The first of the runs that followed each other because a host failed; None: it does not run
    and is not restarted."""
    restarting: Mapped[bool]
    """Its run was lost with its host, and the next one is for the same user."""
    priority: Mapped[int]
    """The spec's: those that wait for a host are taken in this order."""

    # What is waited for.
    asked_at: Mapped[datetime | None]
    asks: Mapped[int]
    retry_at: Mapped[datetime | None]
    failures: Mapped[int]
    """Crashes and refusals in a row."""
    awaits_room: Mapped[bool]
    """Placement found no room: whatever makes room wakes it."""
    next_check_at: Mapped[datetime | None]
    """When the reconcile loop looks at it; None: when something happens."""

    # What is published.
    state: Mapped[DesktopState] = mapped_column(word(DesktopState))
    problem: Mapped[Problem | None] = mapped_column(Json(Problem))
    revision: Mapped[int] = mapped_column(BigInteger)
