"""A desktop and its transitions: what is ordered, what is seen, what the reconcile loop does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DesktopView,
    DomainObservation,
    DomainState,
    Power,
    StopMode,
    StopReason,
)
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.errors import Conflict
from roost_inventory.model.base import Base
from roost_inventory.model.desktop_row import DesktopRow
from roost_inventory.placement import NO_HOST, SPEC_BEYOND_HOSTS, Demand
from roost_inventory.reconcile import (
    CRASH_LOOP,
    FAIL_AGAIN_S,
    NEVER_FITS_AGAIN_S,
    PLACE_AGAIN_S,
    STABLE,
    UP,
    Situation,
    after,
    derive,
)

ABSENCE_GRACE: Final = timedelta(seconds=10)
"""A report that lacks a desktop is believed when the desktop was seen at least this long before:
the node lists its domains a moment before it dates the report."""
ABSENCE_PROOF: Final = timedelta(seconds=45)
"""An agent that has lived and reported this long since a command was given has handled it, or
handled what stood before it in its queue."""
DISK_AGAIN_S: Final = (5.0, 15.0, 30.0)

CRASHES: Final = Problem(
    code="desktop.crash-loop", detail="It stops by itself again and again soon after its start."
)


class Desktop(DesktopRow, Base):
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
            assigned_generation=0,
            reachable=True,
            shunned=None,
            seen_host=None,
            seen_at=None,
            seen_state=None,
            seen_generation=0,
            seen_problem=None,
            boot_id=None,
            spice=None,
            up_since=None,
            stop_reason=StopReason.REQUESTED,
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

    # --- what others see ----------------------------------------------------------------------

    def situation(self) -> Situation:
        """The facts that decisions are made from."""
        return Situation(
            power=self.power,
            stop=self.stop,
            deleting=self.deleting,
            deleted=self.deleted_at is not None,
            host=self.host,
            reachable=self.reachable,
            told=self.told,
            told_stop=self.told_stop,
            told_generation=self.told_generation,
            applied=self._applied,
            seen=self.seen_state,
            seen_generation=self.seen_generation,
            refused=self._refused,
            disk_wanted=self.disk_generation,
            disk_ready=self.disk_ready,
            disk_gone=self.disk_gone,
            asked_at=self.asked_at,
            asks=self.asks,
            retry_at=self.retry_at,
        )

    def view(self) -> DesktopView:
        """The desktop as it is published."""
        return DesktopView(
            id=self.id,
            name=self.name,
            revision=self.revision,
            generation=self.generation,
            state=self.state,
            power=self.power,
            pool_id=self.pool_id,
            template=self.template,
            spec=self.spec,
            host=self.host,
            boot_id=self.boot_id,
            disk_generation=self.disk_generation,
            spice=self.spice,
            problem=self.problem,
        )

    def demand(self) -> Demand:
        """What it needs of a host."""
        return Demand(self.spec.vcpus, self.spec.memory_mib, self.shunned)

    @property
    def is_up(self) -> bool:
        """Whether its guest is known to run."""
        return self.host is not None and self._applied and self.seen_state in UP

    @property
    def _applied(self) -> bool:
        return self.seen_state is not None and self.seen_generation >= self.assigned_generation

    @property
    def _refused(self) -> bool:
        return self.seen_problem is not None and self.seen_state not in UP

    @property
    def _ended(self) -> bool:
        """Told to run, and known not to."""
        return self.told is Power.ON and not self.is_up and (self._applied or self._refused)

    @property
    def _disk_is_ready(self) -> bool:
        return self.disk_ready == self.disk_generation

    # --- what is ordered ----------------------------------------------------------------------

    def order_power(
        self, power: Power, ordered_at: datetime, *, stop: StopMode, grace_s: int
    ) -> bool:
        """Make it run or stop; False when a newer order came first or it is being deleted."""
        if self.deleting or ordered_at < self.power_ordered_at:
            return False
        self.power_ordered_at = ordered_at
        if power is Power.OFF:
            self.stop, self.grace_s = stop, grace_s
        if power is not self.power:
            self.power = power
            self.generation += 1
            self.retry_now()
        return True

    def order_reimage(self, disk_generation: int, template: TemplateRef | None) -> bool:
        """Give it a fresh disk; False when it is there already or is being deleted."""
        if self.deleting or disk_generation <= self.disk_generation:
            return False
        self.disk_generation = disk_generation
        self.template = template or self.template
        self.generation += 1
        self.problem = None
        self.retry_now()
        if self.host is None:
            self._nothing_asked()
        return True

    def order_spec(self, spec: DesktopSpec) -> None:
        """Change its hardware from its next start on."""
        if self.deleting:
            raise Conflict("desktop.deleting", "{name} is being deleted.", name=self.name)
        if spec != self.spec:
            self.spec = spec
            self.generation += 1
            self.retry_now()

    def order_deletion(self) -> bool:
        """Take it away with its disk; False when that was ordered before."""
        if self.deleting:
            return False
        self.deleting = True
        self.power = Power.OFF
        self.generation += 1
        self.problem = None
        self.retry_now()
        if self.host is None:
            self._nothing_asked()
        return True

    def retry_now(self) -> None:
        """Somebody wants something now: what failed before is no reason to wait."""
        self.failures = 0
        self.retry_at = None
        self.awaits_room = False
        if self._disk_is_ready and not self.is_up:
            self.problem = None

    # --- what its node says -------------------------------------------------------------------

    def is_older(self, node: str, at: datetime) -> bool:
        """Whether something newer of this node was taken in before."""
        return self.seen_host == node and self.seen_at is not None and at <= self.seen_at

    def observe(self, node: str, seen: DomainObservation, now: datetime) -> bool:
        """Take in what its node saw; False when it is old, or of another assignment."""
        if self.host != node or self.is_older(node, seen.observed_at):
            return False
        unmarked = seen.generation == 0 and seen.state is DomainState.ABSENT
        if seen.generation < self.assigned_generation and not unmarked:
            return False
        was_up, had_ended = self.is_up, self._ended
        self.seen_host, self.seen_at = node, seen.observed_at
        self.seen_state = seen.state
        self.seen_generation = max(self.seen_generation, seen.generation)
        self.seen_problem = seen.problem
        if self.is_up:
            self._note_up(seen, now)
        elif was_up or (self._ended and not had_ended):
            gone = StopReason.LOST if seen.state is DomainState.ABSENT else StopReason.CRASHED
            self._note_stopped(was_up, seen.stop_reason or gone, now)
        elif self._refused and self.told is Power.OFF and seen.state is not DomainState.ABSENT:
            # It is off, and the node says what keeps it from forgetting it.
            self.problem = seen.problem
        return True

    def observe_absence(
        self, node: str, at: datetime, agent_since: datetime, now: datetime
    ) -> bool:
        """Take in that a complete report of its node lacks it; False when that says nothing.

        ``at`` is the node's time of the report, ``agent_since`` is when its agent was first heard.
        """
        if self.host != node:
            return False
        if (
            self.seen_at is not None
            and self.seen_host == node
            and at < self.seen_at + ABSENCE_GRACE
        ):
            return False
        if self.told is Power.ON:
            if not self._applied or self.seen_state is DomainState.ABSENT:
                return False  # it has not come to it yet, or that is known
            was_up = self.is_up
            self.seen_at, self.seen_state = at, DomainState.ABSENT
            self._note_stopped(was_up, StopReason.LOST, now)
            return True
        if self.told_at is None or now - max(self.told_at, agent_since) < ABSENCE_PROOF:
            return False
        was_up = self.is_up
        self.seen_host, self.seen_at, self.seen_state = node, at, DomainState.ABSENT
        self.seen_generation = self.told_generation
        if was_up:
            self._note_stopped(was_up, StopReason.REQUESTED, now)
        return True

    def _note_up(self, seen: DomainObservation, now: datetime) -> None:
        if self.up_since is None or seen.boot_id != self.boot_id:
            self.up_since = now
        self.boot_id, self.spice = seen.boot_id, seen.spice
        self.problem = seen.problem
        self.retry_at = None

    def _note_stopped(self, was_up: bool, reason: StopReason, now: datetime) -> None:
        """It does not run, or not any more: what follows from the reason."""
        ran_well = was_up and self.up_since is not None and now - self.up_since >= STABLE
        self.boot_id, self.spice, self.up_since = None, None, None
        if was_up:
            self.problem = None  # what troubled it while it ran
        if Power.OFF in (self.told, self.power) or self.deleting or not self._disk_is_ready:
            # It was to stop anyway; a re-image says by itself what is to be afterwards.
            self.stop_reason = StopReason.REQUESTED
            return
        if self.seen_problem is None and reason is StopReason.GUEST_SHUTDOWN:
            self.stop_reason = reason
            self.power = Power.OFF
            self.power_ordered_at = now
            self.generation += 1
            return
        self.stop_reason = reason
        self.failures = 1 if ran_well else self.failures + 1
        self.retry_at = now + after(FAIL_AGAIN_S, self.failures)
        if self.seen_problem is not None:
            self.problem = self.seen_problem
            self.shunned = self.host
        elif self.failures >= CRASH_LOOP:
            self.problem = CRASHES

    # --- what imaging says --------------------------------------------------------------------

    def note_disk(self, generation: int, path: str) -> bool:
        """Its disk is ready; False when that is known, or it wants another by now."""
        if generation != self.disk_generation or self.disk_ready == generation or self.disk_gone:
            return False
        self.disk_ready, self.disk_path = generation, path
        self.problem, self.retry_at, self.failures = None, None, 0
        self._nothing_asked()
        return True

    def note_disk_refused(
        self, generation: int, problem: Problem, now: datetime, *, retryable: bool
    ) -> bool:
        """Its disk cannot be made, or taken away, for now."""
        if self.host is not None or self.disk_gone or self.asked_at is None:
            return False
        waits_for = self.disk_generation + 1 if self.deleting else self.disk_generation
        if generation != waits_for or (not self.deleting and self.disk_ready == generation):
            return False
        self.problem = problem
        self.failures += 1
        wait = after(DISK_AGAIN_S, self.failures)
        self.retry_at = now + (wait if retryable else timedelta(seconds=NEVER_FITS_AGAIN_S))
        self._nothing_asked()
        return True

    def note_disk_gone(self, generation: int) -> bool:
        """No file of its disk is left."""
        if not self.deleting or self.disk_gone or generation < self.disk_generation:
            return False
        self.disk_gone = True
        self.disk_path = None
        return True

    # --- what the reconcile loop does ---------------------------------------------------------

    def assign(self, host: str, now: datetime) -> None:
        """It goes to this host, whose room the caller has locked and counted."""
        if self.seen_host != host:
            # Another node's clock says nothing about this one's.
            self.seen_host, self.seen_at = None, None
        self.host, self.reachable = host, True
        self.told, self.told_spec = Power.ON, self.spec
        self.reserved_vcpus, self.reserved_memory_mib = self.spec.vcpus, self.spec.memory_mib
        self.generation += 1
        self.assigned_generation = self.told_generation = self.generation
        self.seen_state, self.seen_generation, self.seen_problem = None, 0, None
        self.retry_at, self.awaits_room = None, False
        if self.problem is not None and self.problem.code.startswith("placement."):
            self.problem = None
        self.told_at = now
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
        self.reserved_vcpus = self.reserved_memory_mib = 0
        self.seen_state, self.seen_generation, self.seen_problem = None, 0, None
        self.boot_id, self.spice, self.up_since = None, None, None
        if self.power is Power.OFF:
            self.problem = None
        self._nothing_asked()

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

    def note_asked(self, now: datetime) -> None:
        """Its node, imaging or placement has been asked (once more)."""
        self.asked_at = now
        self.asks += 1

    def finish(self, now: datetime) -> None:
        """Nothing is left of it but its row."""
        self.deleted_at = now
        self.problem = None
        self.next_check_at = None

    def touch(self, now: datetime) -> None:
        """Have the reconcile loop look at it."""
        if self.deleted_at is None:
            self.next_check_at = now

    def settle(self) -> None:
        """Bring the stored state up to the facts."""
        self.state = derive(self.situation())

    def _nothing_asked(self) -> None:
        self.asked_at, self.asks = None, 0
