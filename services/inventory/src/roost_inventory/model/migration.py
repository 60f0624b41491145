"""A migration of a desktop from one host to another: what was ordered, and what was heard of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DomainObservation, DomainState
from roost_inventory.migration_plan import Course, End, Word
from roost_inventory.model.base import Base, Json, word
from roost_inventory.witness import Witness

CROSSED: Final = timedelta(seconds=10)
"""A report that lacks a desktop is believed when the desktop was seen at least this long before: a
node does not look and date in one instant."""
STAYED: Final = Problem(
    code="migration.not-begun", detail="Its host knows of no migration; it runs where it was."
)
GONE: Final = Problem(code="migration.desktop-lost", detail="It ended while it was being moved.")


class MigrationState(StrEnum):
    """How far a migration is."""

    QUEUED = "queued"
    """Its host has been told, and has not begun to send it."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Somebody wanted it to stay, and it has."""


UNDER_WAY: Final = frozenset({MigrationState.QUEUED, MigrationState.RUNNING})


class Cause(StrEnum):
    """Who wanted it."""

    REQUESTED = "requested"
    """A person."""
    MAINTENANCE = "maintenance"
    """Its host is to be empty."""
    BALANCE = "balance"
    """The policy of its cluster."""


class Migration(Base):
    """One migration. It is changed with its desktop locked, but for how far it is."""

    __tablename__ = "migrations"
    __table_args__ = (
        sa.Index("ix_migrations_desktop_id", "desktop_id", "created_at"),
        sa.Index("ix_migrations_source", "source", "created_at"),
        sa.Index("ix_migrations_created_at", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    desktop_id: Mapped[UUID]
    desktop_name: Mapped[str] = mapped_column(String(63))
    source: Mapped[str] = mapped_column(String(253))
    target: Mapped[str] = mapped_column(String(253))
    target_address: Mapped[str] = mapped_column(String(253))
    target_agent: Mapped[UUID]
    """The run of the target's agent when it began."""
    cause: Mapped[Cause] = mapped_column(word(Cause))
    reason: Mapped[str]
    """In words."""
    boot_id: Mapped[UUID]
    generation: Mapped[int] = mapped_column(BigInteger)
    """No other command has it: where it is seen, the desktop has arrived."""

    state: Mapped[MigrationState] = mapped_column(word(MigrationState))
    percent: Mapped[float]
    problem: Mapped[Problem | None] = mapped_column(Json(Problem))
    """Why it was not moved, or is given up."""
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]
    cancelled: Mapped[bool]
    """Somebody wants it to stay."""

    # What the source was told.
    told_agent: Mapped[UUID | None]
    asked_at: Mapped[datetime | None]
    asks: Mapped[int]
    given_up_at: Mapped[datetime | None]
    """When it was first told to give it up."""

    # What was heard since it began.
    source_seen: Mapped[DomainObservation | None] = mapped_column(Json(DomainObservation))
    source_agent: Mapped[UUID | None]
    source_heard_at: Mapped[datetime | None]
    source_fenced_at: Mapped[datetime | None]
    source_incident: Mapped[UUID | None]
    target_seen: Mapped[DomainObservation | None] = mapped_column(Json(DomainObservation))
    target_seen_agent: Mapped[UUID | None]
    target_heard_at: Mapped[datetime | None]
    target_fenced_at: Mapped[datetime | None]
    target_incident: Mapped[UUID | None]
    over_at: Mapped[datetime | None]
    """When the source's word came that it is over."""
    over_problem: Mapped[Problem | None] = mapped_column(Json(Problem))

    @classmethod
    def begun(
        cls,
        *,
        desktop_id: UUID,
        desktop_name: str,
        source: str,
        target: str,
        target_address: str,
        target_agent: UUID,
        cause: Cause,
        reason: str,
        boot_id: UUID,
        generation: int,
        now: datetime,
        deadline: timedelta,
    ) -> Migration:
        """A new one, of which nobody has been told."""
        return cls(
            id=uuid4(),
            desktop_id=desktop_id,
            desktop_name=desktop_name,
            source=source,
            target=target,
            target_address=target_address,
            target_agent=target_agent,
            cause=cause,
            reason=reason,
            boot_id=boot_id,
            generation=generation,
            state=MigrationState.QUEUED,
            percent=0.0,
            problem=None,
            created_at=now,
            ended_at=None,
            deadline_at=now + deadline,
            cancelled=False,
            told_agent=None,
            asked_at=None,
            asks=0,
            given_up_at=None,
            source_seen=None,
            source_agent=None,
            source_heard_at=None,
            source_fenced_at=None,
            source_incident=None,
            target_seen=None,
            target_seen_agent=None,
            target_heard_at=None,
            target_fenced_at=None,
            target_incident=None,
            over_at=None,
            over_problem=None,
        )

    # --- reading ------------------------------------------------------------------------------

    def course(self, *, wanted: bool, reachable: bool, run: UUID | None) -> Course:
        """The facts that decisions are made from.

        ``wanted``: the desktop is to run on as it is; ``run``: the present run of the source's
        agent.
        """
        return Course(
            generation=self.generation,
            deadline_at=self.deadline_at,
            wanted=wanted and not self.cancelled,
            reachable=reachable,
            void=self.told_agent != run,
            source=_word(self.source_seen, self.source_heard_at),
            target=_word(self.target_seen, self.target_heard_at),
            source_fenced_at=self.source_fenced_at,
            target_fenced_at=self.target_fenced_at,
            ended_at=self.over_at,
            ended_by=self.over_problem,
            cancelled_at=self.given_up_at,
            asked_at=self.asked_at,
            asks=self.asks,
        )

    @property
    def under_way(self) -> bool:
        """Whether it is not known yet where the desktop ends up."""
        return self.state in UNDER_WAY

    @property
    def target_witness(self) -> Witness:
        """Who saw it last at the target."""
        return Witness(self.target, self.target_seen_agent)

    @property
    def source_witness(self) -> Witness:
        """Who saw it last at the source."""
        return Witness(self.source, self.source_agent)

    # --- what is heard ------------------------------------------------------------------------

    def hear(self, by: Witness, seen: DomainObservation, now: datetime) -> bool:
        """What one of the two nodes sees; False when it says nothing, or is old."""
        if by.node == self.source:
            if self.source_fenced_at is not None or _is_older(
                self.source_seen, self.source_witness, by, seen.observed_at
            ):
                return False
            gone = self.source_seen is not None and self.source_seen.state is DomainState.ABSENT
            if not (gone and seen.state is DomainState.ABSENT):
                self.source_heard_at = now  # of absence, the first word counts
            self.source_seen, self.source_agent = seen, by.agent_id
            if seen.migrating and self.state is MigrationState.QUEUED:
                self.state = MigrationState.RUNNING
            return True
        if (
            by.node != self.target
            or (self.target_fenced_at is not None and by.agent_id == self.target_agent)
            or _is_older(self.target_seen, self.target_witness, by, seen.observed_at)
        ):
            return False
        self.target_seen, self.target_seen_agent, self.target_heard_at = seen, by.agent_id, now
        return True

    def hear_absence(self, by: Witness, at: datetime, now: datetime) -> bool:
        """A complete report of one of the two nodes lacks it; ``at`` is the agent's time."""
        here = by.node == self.source
        last, witness = (
            (self.source_seen, self.source_witness)
            if here
            else (self.target_seen, self.target_witness)
        )
        there = last is not None and last.state is not DomainState.ABSENT and witness.same_run(by)
        if there and last is not None and at < last.observed_at + CROSSED:
            return False
        nothing = DomainObservation(
            desktop_id=self.desktop_id, generation=0, state=DomainState.ABSENT, observed_at=at
        )
        return self.hear(by, nothing, now)

    def note_over(self, problem: Problem | None, now: datetime) -> None:
        """The source says that it is over; the first word counts."""
        if self.over_at is None:
            self.over_at, self.over_problem = now, problem

    def note_fenced(self, node: str, incident: UUID, now: datetime) -> None:
        """This node is fenced: whatever was there of this migration runs no more."""
        if node == self.source and self.source_fenced_at is None:
            self.source_fenced_at, self.source_incident = now, incident
        if node == self.target:
            # A later one proves more: it covers what arrived at the machine started again.
            self.target_fenced_at, self.target_incident = now, incident

    @property
    def lost_with(self) -> tuple[str, UUID] | None:
        """The host whose failure it was lost with, if it was, and the incident."""
        if self.source_incident is not None:
            return self.source, self.source_incident
        return None if self.target_incident is None else (self.target, self.target_incident)

    # --- what is done -------------------------------------------------------------------------

    def cancel(self, problem: Problem | None) -> bool:
        """Have it stay where it is, if it still can; False when that was wanted before."""
        if self.cancelled:
            return False
        self.cancelled, self.problem = True, problem
        return True

    def note_told(self, run: UUID | None, now: datetime, *, give_up: bool) -> None:
        """The source was told (once more)."""
        if give_up and self.given_up_at is None:
            self.given_up_at, self.asks = now, 0
        self.told_agent, self.asked_at = run, now
        self.asks += 1

    def end(self, how: End, now: datetime) -> None:
        """It is known where the desktop is."""
        self.ended_at = now
        if how is End.MOVED:
            self.state, self.percent, self.problem = MigrationState.DONE, 100.0, None
            return
        self.state = MigrationState.CANCELLED if self.cancelled else MigrationState.FAILED
        if how is End.LOST:
            self.state, self.problem = MigrationState.FAILED, self.problem or GONE
        elif self.problem is None:
            self.problem = self.over_problem or STAYED


def _word(seen: DomainObservation | None, heard_at: datetime | None) -> Word | None:
    if seen is None or heard_at is None:
        return None
    return Word(seen.state, heard_at, seen.generation, seen.migrating)


def _is_older(last: DomainObservation | None, witness: Witness, by: Witness, at: datetime) -> bool:
    return last is not None and at <= last.observed_at and witness.same_run(by)
