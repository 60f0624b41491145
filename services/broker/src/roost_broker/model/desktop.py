"""The desktops of the pools: what inventory says of them, and what broker wants of them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_broker.model.base import Base, Json, JsonObject
from roost_broker.phase import SILENT_HOST, Phase, phase_of
from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState, DesktopView
from roost_common.contracts.spec import TemplateRef


class PoolDesktop(Base):
    """A desktop of a pool. Its id is chosen here, and inventory's for ever after."""

    __tablename__ = "pool_desktops"
    __table_args__ = (
        sa.UniqueConstraint("pool_id", "name"),
        sa.Index("ix_pool_desktops_choice", "pool_id", "phase", "phase_since"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    pool_id: Mapped[UUID] = mapped_column(sa.ForeignKey("pools.id"))
    name: Mapped[str] = mapped_column(sa.String(63))
    phase: Mapped[str] = mapped_column(sa.String(16))
    phase_since: Mapped[datetime]

    # Inventory's: the view of this revision.
    revision: Mapped[int] = mapped_column(sa.BigInteger)
    state: Mapped[str | None] = mapped_column(sa.String(16))
    host: Mapped[str | None] = mapped_column(sa.String(255))
    boot_id: Mapped[UUID | None]
    disk_generation: Mapped[int]
    spice: Mapped[JsonObject | None] = mapped_column(Json)
    problem: Mapped[JsonObject | None] = mapped_column(Json)
    lineage: Mapped[UUID | None]
    """Inventory's: what the runs have in common that follow each other for the same session."""
    restarting: Mapped[bool]
    """Its run was lost with its host: the next one is for the same session."""
    moving: Mapped[bool]
    """It is on its way to another host: where its screen is changes at any moment."""
    template_id: Mapped[UUID]
    template_version: Mapped[int]
    spec: Mapped[JsonObject] = mapped_column(Json)

    # Broker's own.
    session_id: Mapped[UUID | None]
    leaving: Mapped[bool]
    refused: Mapped[bool]
    wanted_generation: Mapped[int]
    dirty_boot_id: Mapped[UUID | None]
    commanded_at: Mapped[datetime]
    tries: Mapped[int]

    @classmethod
    def requested(
        cls,
        desktop_id: UUID,
        *,
        pool_id: UUID,
        name: str,
        template: TemplateRef,
        spec: JsonObject,
        now: datetime,
    ) -> PoolDesktop:
        """One that inventory is being asked to make."""
        return cls(
            id=desktop_id,
            pool_id=pool_id,
            name=name,
            phase=Phase.COMING,
            phase_since=now,
            revision=0,
            disk_generation=1,
            restarting=False,
            moving=False,
            template_id=template.id,
            template_version=template.version,
            spec=spec,
            leaving=False,
            refused=False,
            wanted_generation=1,
            commanded_at=now,
            tries=1,
        )

    def seen(self, view: DesktopView, now: datetime) -> bool:
        """Take in a view of inventory's; false when a newer one is known."""
        if view.revision <= self.revision:
            return False
        if view.state != self.state or view.disk_generation != self.disk_generation:
            self.tries = 0  # something moved: what is still missing is asked for soon again
        self.revision = view.revision
        self.state = view.state
        self.host = view.host
        self.boot_id = view.boot_id
        self.lineage = view.lineage
        self.restarting = view.restarting
        self.moving = view.migrating_to is not None
        self.disk_generation = view.disk_generation
        self.spice = view.spice.model_dump(mode="json") if view.spice else None
        self.template_id = view.template.id
        self.template_version = view.template.version
        self.spec = view.spec.model_dump(mode="json")
        self.problem = view.problem.model_dump() if view.problem else None
        if self.problem is None and view.state is DesktopState.UNKNOWN:
            self.problem = SILENT_HOST.model_dump()
        self.refused = False
        self.settle(now)
        return True

    def refuse(self, problem: Problem, now: datetime) -> None:
        """Inventory will not make it."""
        self.refused = True
        self.problem = problem.model_dump()
        self.settle(now)

    def release(self, used_boot_id: UUID, now: datetime) -> int:
        """Its session is over: it needs a new disk; returns the generation to ask for."""
        self.session_id = None
        self.dirty_boot_id = self.boot_id or used_boot_id
        self.tries = 0
        self.wanted_generation = max(self.disk_generation, self.wanted_generation) + 1
        self.commanded(now)
        return self.wanted_generation

    def renew(self, generation: int, now: datetime) -> None:
        """It is to get the disk of this generation; nobody has it now."""
        self.wanted_generation = generation
        self.commanded(now)

    def commanded(self, now: datetime) -> None:
        """A command about it goes out."""
        self.tries += 1
        self.commanded_at = now
        self.settle(now)

    def leave(self, now: datetime) -> None:
        """It is told to go."""
        if not self.leaving:
            self.leaving = True
            self.tries = 0
        self.commanded(now)

    def settle(self, now: datetime) -> None:
        """Bring ``phase`` in line with everything else."""
        phase = phase_of(
            leaving=self.leaving,
            refused=self.refused,
            assigned=self.session_id is not None,
            state=None if self.state is None else DesktopState(self.state),
            reachable=self.host is not None and self.spice is not None,
            boot_id=self.boot_id,
            dirty_boot_id=self.dirty_boot_id,
            disk_generation=self.disk_generation,
            wanted_generation=self.wanted_generation,
            problem=self.problem is not None,
        )
        if phase != self.phase:
            self.phase = phase
            self.phase_since = now
