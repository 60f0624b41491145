"""A desktop's transitions while it is moved from one host to another, running."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState, DomainObservation, DomainState, Power
from roost_common.contracts.host import FencedBy
from roost_common.errors import Conflict
from roost_inventory.fence import Fence, Verdict, verdict
from roost_inventory.migration_plan import Course
from roost_inventory.model.desktop_seen import Seen
from roost_inventory.model.migration import Cause, Migration
from roost_inventory.reconcile import UP
from roost_inventory.witness import Witness

OVERTAKEN = Problem(
    code="migration.overtaken",
    detail="Something else was ordered of the desktop while it was being moved.",
)
TARGET_FENCED = Problem(
    code="migration.target-failed", detail="The host it was being moved to failed."
)
TOO_LATE = Problem(
    code="migration.deadline", detail="It could not be moved in the time it was given."
)


@dataclass(frozen=True)
class Destination:
    """The host a desktop is moved to, whose room the caller has locked and counted."""

    host: str
    address: str
    agent_id: UUID


class Moving(Seen):
    """Being in two places, as far as anybody knows."""

    def depart(
        self,
        to: Destination,
        *,
        cause: Cause,
        reason: str,
        now: datetime,
        deadline: timedelta,
    ) -> Migration:
        """Begin to be moved; raises `Conflict` where it cannot be."""
        boot_id, host = self.require_movable()
        self.generation += 1
        migration = Migration.begun(
            desktop_id=self.id,
            desktop_name=self.name,
            source=host,
            target=to.host,
            target_address=to.address,
            target_agent=to.agent_id,
            cause=cause,
            reason=reason,
            boot_id=boot_id,
            generation=self.generation,
            now=now,
            deadline=deadline,
        )
        self.migration, self.migrating_to = migration, to.host
        self.touch(now)
        return migration

    def require_movable(self) -> tuple[UUID, str]:
        """Its run and its host. Raises `Conflict` unless it runs as it should and stays."""
        if self.migration is not None:
            raise Conflict(
                "migration.under-way",
                "{name} is being moved to {host}.",
                name=self.name,
                host=self.migration.target,
            )
        if self.state is not DesktopState.RUNNING or self.boot_id is None or self.host is None:
            raise Conflict("desktop.not-running", "{name} does not run.", name=self.name)
        return self.boot_id, self.host

    # --- what its two nodes say ---------------------------------------------------------------

    def knows(self, node: str | None) -> bool:
        """Whether this node may have it now."""
        return node is not None and node in (self.host, self.migrating_to)

    def hear(self, by: Witness, seen: DomainObservation, now: datetime) -> bool:
        """What one of the two nodes sees; False when it is old, or of an earlier assignment.

        That it is gone from its source, or shut off there, is kept until it is known whether it
        runs at its target: it need not have ended.
        """
        migration = self.migration
        if migration is None:
            return self.observe(by, seen, now)
        if by.node == self.host:
            unmarked = seen.generation == 0 and seen.state is DomainState.ABSENT
            if self.is_older(by, seen.observed_at) or (
                seen.generation < self.assigned_generation and not unmarked
            ):
                return False
            if seen.state in UP and migration.source_fenced_at is None:
                self.observe(by, seen, now)
        return migration.hear(by, seen, now)

    def hear_absence(self, by: Witness, at: datetime, agent_since: datetime, now: datetime) -> bool:
        """A complete report of one of its nodes lacks it; False when that says nothing."""
        if self.migration is None:
            return self.observe_absence(by, at, agent_since, now)
        if not self.knows(by.node) or (by.node == self.host and self.is_older(by, at)):
            return False
        return self.migration.hear_absence(by, at, now)

    def note_fenced(self, fence: Fence, node: str, incident_id: UUID, now: datetime) -> bool:
        """One of its nodes was fenced; True when it may have been lost with that one."""
        migration = self.migration
        if migration is None:
            raise ValueError(f"desktop {self.id} is not being moved")
        if not self.verdict_on(node, fence).gone:
            return False
        migration.note_fenced(node, incident_id, now)
        self.touch(now)
        gone = migration.source_seen is not None and migration.source_seen.state not in UP
        return gone or node == migration.source

    def verdict_on(self, node: str, fence: Fence) -> Verdict:
        """What the fence of one of its nodes says of what it has, or may have, there."""
        there = self.assigned()
        if self.migration is None or node != self.migration.target:
            return verdict(fence, there)
        found = verdict(fence, replace(there, run=self.migration.target_agent))
        # A lease ends what its node had; what arrived there later, its next run tells of.
        return Verdict.DOUBTFUL if found.gone and fence.by is FencedBy.LEASE else found

    # --- what becomes of it -------------------------------------------------------------------

    def course(self, run: UUID | None) -> Course:
        """The facts of its migration; ``run`` is the present run of its host's agent."""
        if self.migration is None:
            raise ValueError(f"desktop {self.id} is not being moved")
        return self.migration.course(
            wanted=self.assigned().wanted, reachable=self.reachable, run=run
        )

    def _arrive(self, migration: Migration, now: datetime) -> None:
        if migration.target_seen is None:
            raise ValueError(f"migration {migration.id}: nobody has seen it arrive")
        self.host, self.reachable = migration.target, True
        self.told, self.told_at, self.told_agent = Power.ON, now, migration.target_seen_agent
        self.assigned_generation = self.told_generation = migration.generation
        # It ran there, whatever it has done since.
        self.seen_host, self.seen_agent, self.seen_at = None, None, None
        self.seen_state, self.seen_generation = DomainState.RUNNING, migration.generation
        self.seen_problem, self.shunned = None, None
        self._nothing_asked()
        self.observe(migration.target_witness, migration.target_seen, now)
