"""What a desktop's columns mean together: the facts that decisions and views are made from."""

from __future__ import annotations

from datetime import datetime

from roost_common.contracts.desktop import DesktopView, Power
from roost_inventory.fence import Assigned
from roost_inventory.model.desktop_row import DesktopRow
from roost_inventory.placement import Demand
from roost_inventory.reconcile import UP, Situation, derive
from roost_inventory.witness import Witness


class DesktopFacts(DesktopRow):
    """Reading, and the bookkeeping that every transition shares."""

    void: bool = False
    """Its command was given to a run of the agent that is over. Not stored: it follows from the
    host's row, and whoever asks for the plan has read that."""

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
            void=self.void,
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
            failures=self.failures if self._disk_is_ready else 0,
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
            restarting=self.restarting,
            lineage=self.lineage,
            migrating_to=self.migrating_to,
        )

    def assigned(self) -> Assigned:
        """What the fence of its host is judged by."""
        wanted = self.told is self.power is Power.ON and not self.deleting and self._disk_is_ready
        return Assigned(self.told_agent, self._restarts, wanted)

    @property
    def _restarts(self) -> bool:
        """Its policy, as its node was told it."""
        return (self.told_spec or self.spec).ha.restart

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

    @property
    def seen_by(self) -> Witness:
        """Who saw it last."""
        return Witness(self.seen_host, self.seen_agent)

    def is_older(self, by: Witness, at: datetime) -> bool:
        """Whether something newer of this run of this node's agent was taken in before.

        Whoever asks for another run knows that it is the present one.
        """
        return self.seen_at is not None and at <= self.seen_at and self.seen_by.same_run(by)

    def note_asked(self, now: datetime) -> None:
        """Its node, imaging or placement has been asked (once more)."""
        self.asked_at = now
        self.asks += 1

    def touch(self, now: datetime) -> None:
        """Have the reconcile loop look at it."""
        if self.deleted_at is None:
            self.next_check_at = now

    def settle(self) -> None:
        """Bring the stored state up to the facts."""
        self.state = derive(self.situation())

    def _nothing_asked(self) -> None:
        self.asked_at, self.asks = None, 0
