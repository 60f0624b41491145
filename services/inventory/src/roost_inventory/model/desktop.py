"""A desktop: its table, its beginning, and its transitions by the reconcile loop."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import Power, StopMode, StopReason
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_inventory.fence import Verdict, loss
from roost_inventory.migration_plan import End
from roost_inventory.model.base import Base
from roost_inventory.model.desktop_moves import Moving
from roost_inventory.model.desktop_orders import Ordered
from roost_inventory.model.migration import Migration
from roost_inventory.placement import NO_HOST, SPEC_BEYOND_HOSTS
from roost_inventory.reconcile import NEVER_FITS_AGAIN_S, PLACE_AGAIN_S, UP, after, derive


class Desktop(Ordered, Moving, Base):
    """One desktop.

    Every method leaves the row as it should be, and nothing published: that is `changes`' work.
    """

    __tablename__ = "desktops"
    __table_args__ = (
        sa.Index(
            "uq_desktops_living_name",
            "name",
            unique=True,
            postgresql_where=sa.text("deleted_at is null"),
        ),
        sa.Index(
            "ix_desktops_due",
            "next_check_at",
            postgresql_where=sa.text("next_check_at is not null"),
        ),
        sa.Index(
            "ix_desktops_host",
            "host",
            postgresql_include=["reserved_vcpus", "reserved_memory_mib"],
            postgresql_where=sa.text("host is not null"),
        ),
        sa.Index(
            "ix_desktops_migrating_to",
            "migrating_to",
            postgresql_where=sa.text("migrating_to is not null"),
        ),
        sa.Index("ix_desktops_awaits_room", "created_at", postgresql_where=sa.text("awaits_room")),
        sa.Index("ix_desktops_pool_id", "pool_id"),
        sa.Index("ix_desktops_state", "state"),
    )

    @classmethod
    def create(
        cls,
        *,
        desktop_id: UUID,
        name: str,
        pool_id: UUID | None,
        template: TemplateRef,
        spec: DesktopSpec,
        power: Power,
        ordered_at: datetime,
        now: datetime,
        correlation_id: str,
    ) -> Desktop:
        """A new one, without a disk and without a host."""
        desktop = cls(
            id=desktop_id,
            name=name,
            pool_id=pool_id,
            created_at=now,
            deleted_at=None,
            template=template,
            spec=spec,
            power=power,
            power_ordered_at=ordered_at,
            stop=StopMode.POWEROFF,
            grace_s=0,
            deleting=False,
            generation=1,
            correlation_id=correlation_id,
            disk_generation=1,
            disk_ready=0,
            disk_path=None,
            disk_gone=False,
            host=None,
            reserved_vcpus=0,
            reserved_memory_mib=0,
            told=Power.OFF,
            told_spec=None,
            told_stop=StopMode.POWEROFF,
            told_generation=0,
            told_at=None,
            told_agent=None,
            assigned_generation=0,
            reachable=True,
            shunned=None,
            migrating_to=None,
            migration=None,
            seen_host=None,
            seen_agent=None,
            seen_at=None,
            seen_state=None,
            seen_generation=0,
            seen_problem=None,
            boot_id=None,
            spice=None,
            up_since=None,
            stop_reason=StopReason.REQUESTED,
            lineage=None,
            restarting=False,
            priority=spec.ha.priority,
            asked_at=None,
            asks=0,
            retry_at=None,
            failures=0,
            awaits_room=False,
            next_check_at=now,
            problem=None,
            revision=1,
        )
        desktop.state = derive(desktop.situation())
        return desktop

    # --- the reconcile loop -------------------------------------------------------------------

    def assign(self, host: str, agent: UUID | None, now: datetime) -> None:
        """It goes to this host, whose room the caller has locked and counted.

        ``agent`` is the run of the host's agent that is told.
        """
        if self.seen_host != host:
            # Another node's clock says nothing about this one's.
            self.seen_host, self.seen_agent, self.seen_at = None, None, None
        self.host, self.reachable = host, True
        self.told, self.told_spec = Power.ON, self.spec
        self.reserved_vcpus, self.reserved_memory_mib = self.spec.vcpus, self.spec.memory_mib
        self.generation += 1
        self.assigned_generation = self.told_generation = self.generation
        self.seen_state, self.seen_generation, self.seen_problem = None, 0, None
        self.retry_at, self.awaits_room = None, False
        if self.problem is not None and self.problem.code.startswith("placement."):
            self.problem = None
        self.told_at, self.told_agent = now, agent
        self._nothing_asked()
        self.note_asked(now)

    def release(self, stop: StopMode, now: datetime) -> None:
        """Its node is told `off` from now on."""
        self.told, self.told_stop = Power.OFF, stop
        self.generation += 1
        self.told_generation = self.generation
        self.told_at = now
        self._nothing_asked()
        self.note_asked(now)

    def detach(self) -> None:
        """The domain is gone: its host is free of it. Who saw it last, and when, is kept."""
        self.host, self.reachable, self.told_spec = None, True, None
        self.told_agent = None
        self.reserved_vcpus = self.reserved_memory_mib = 0
        self.seen_state, self.seen_generation, self.seen_problem = None, 0, None
        self.boot_id, self.spice, self.up_since = None, None, None
        if not self.restarting:
            self.lineage = None
        if self.power is Power.OFF:
            self.problem = None
        self._nothing_asked()

    def lose_host(self, verdict: Verdict, now: datetime) -> None:
        """Its host was fenced: it is gone from there without having been seen to go."""
        if verdict is Verdict.RESTART:
            self.restarting = self.restarting or self.is_up or self.boot_id is not None
        elif verdict is Verdict.LEAVE_OFF:
            self.power, self.restarting = Power.OFF, False
            self.generation += 1
        wanted = verdict is not Verdict.FREE
        self.stop_reason = StopReason.HOST_FAILED if wanted else StopReason.REQUESTED
        lineage = self.lineage
        self.detach()
        if self.restarting:
            self.lineage = lineage
        self.problem, self.retry_at = None, None
        self.touch(now)

    def conclude(self, end: End, now: datetime) -> Migration:
        """It is known where its migration ended: the other host is free of it."""
        migration = self.migration
        if migration is None:
            raise ValueError(f"desktop {self.id} is not being moved")
        migration.end(end, now)
        self.migration, self.migrating_to = None, None
        if end is End.MOVED:
            self._arrive(migration, now)
        elif end is End.LOST and migration.lost_with is not None:
            self.lose_host(loss(self.assigned()), now)
        elif migration.source_seen is not None and migration.source_seen.state not in UP:
            # What was kept back: it has ended where it was.
            self.observe(migration.source_witness, migration.source_seen, now)
        return migration

    def refuse_place(self, problem: Problem, now: datetime) -> None:
        """No host for it now."""
        self.problem = problem
        self.awaits_room = True
        self.note_asked(now)
        never = problem.code == SPEC_BEYOND_HOSTS
        wait = timedelta(seconds=NEVER_FITS_AGAIN_S) if never else after(PLACE_AGAIN_S, self.asks)
        # Hosts that come up wake those who wait; asking often helps nothing.
        if problem.code == NO_HOST:
            wait = after(PLACE_AGAIN_S, len(PLACE_AGAIN_S))
        self.retry_at = now + wait

    def finish(self, now: datetime) -> None:
        """Nothing is left of it but its row."""
        self.deleted_at = now
        self.problem = None
        self.next_check_at = None
