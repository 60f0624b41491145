"""A desktop's transitions by what its node and imaging say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DomainObservation, DomainState, Power, StopReason
from roost_inventory.model.desktop_facts import DesktopFacts
from roost_inventory.reconcile import (
    CRASH_LOOP,
    FAIL_AGAIN_S,
    GIVE_UP,
    LOCKED_AGAIN_S,
    NEVER_FITS_AGAIN_S,
    STABLE,
    after,
)
from roost_inventory.witness import Witness

ABSENCE_GRACE: Final = timedelta(seconds=10)
"""A report that lacks a desktop is believed when the desktop was seen at least this long before:
a node does not look and date in one instant."""
ABSENCE_PROOF: Final = timedelta(seconds=45)
"""An agent that has lived and reported this long since a command was given has handled it, or
handled what stood before it in its queue."""
DISK_AGAIN_S: Final = (5.0, 15.0, 30.0)

CRASHES: Final = Problem(
    code="desktop.crash-loop", detail="It stops by itself again and again soon after its start."
)
DISK_LOCKED: Final = "desktop.disk-locked"
"""QEMU refuses to start: another one holds the lock of the image."""
GIVEN_UP: Final = "desktop.given-up"


class Seen(DesktopFacts):
    """What is."""

    # --- its node -----------------------------------------------------------------------------

    def observe(self, by: Witness, seen: DomainObservation, now: datetime) -> bool:
        """Take in what its node saw; False when it is old, or of another assignment."""
        if self.host != by.node or self.is_older(by, seen.observed_at):
            return False
        unmarked = seen.generation == 0 and seen.state is DomainState.ABSENT
        if seen.generation < self.assigned_generation and not unmarked:
            return False
        was_up, had_ended = self.is_up, self._ended
        same_run = self.seen_by.same_run(by)
        self._note_seen(by, seen.observed_at)
        self.seen_state = seen.state
        self.seen_generation = max(self.seen_generation, seen.generation)
        self.seen_problem = seen.problem
        if self.is_up:
            self._note_up(seen, now)
        elif was_up or (self._ended and not had_ended):
            gone = StopReason.LOST if seen.state is DomainState.ABSENT else StopReason.CRASHED
            self._note_stopped(was_up, seen.stop_reason or gone, now, same_run=same_run)
        elif self._refused and self.told is Power.OFF and seen.state is not DomainState.ABSENT:
            # It is off, and the node says what keeps it from forgetting it.
            self.problem = seen.problem
        return True

    def observe_absence(
        self, by: Witness, at: datetime, agent_since: datetime, now: datetime
    ) -> bool:
        """Take in that a complete report of its node lacks it; False when that says nothing.

        ``at`` is the agent's time of the report, ``agent_since`` is when this run of it was first
        heard.
        """
        crossed = self.seen_at is not None and at < self.seen_at + ABSENCE_GRACE
        if self.host != by.node or (crossed and self.seen_by.same_run(by)):
            return False
        if self.told is Power.ON:
            if not self._applied or self.seen_state is DomainState.ABSENT:
                return False  # it has not come to it yet, or that is known
            was_up, same_run = self.is_up, self.seen_by.same_run(by)
            self._note_seen(by, at)
            self.seen_state = DomainState.ABSENT
            self._note_stopped(was_up, StopReason.LOST, now, same_run=same_run)
            return True
        if self.told_at is None or now - max(self.told_at, agent_since) < ABSENCE_PROOF:
            return False
        was_up = self.is_up
        self._note_seen(by, at)
        self.seen_state = DomainState.ABSENT
        self.seen_generation = self.told_generation
        if was_up:
            self._note_stopped(was_up, StopReason.REQUESTED, now)
        return True

    def _note_seen(self, by: Witness, at: datetime) -> None:
        self.seen_host, self.seen_agent, self.seen_at = by.node, by.agent_id, at

    def _note_up(self, seen: DomainObservation, now: datetime) -> None:
        if self.up_since is None or seen.boot_id != self.boot_id:
            self.up_since = now
        if self.lineage is None or (seen.boot_id != self.boot_id and not self.restarting):
            self.lineage = seen.boot_id
        self.boot_id, self.spice = seen.boot_id, seen.spice
        self.problem = seen.problem
        self.restarting = False
        self.retry_at = None

    def _note_stopped(
        self, was_up: bool, reason: StopReason, now: datetime, *, same_run: bool = True
    ) -> None:
        """It does not run, or not any more: what follows from the reason.

        ``same_run``: by the word of the run of the agent that saw it last.
        """
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
            self.generation += 1
            return
        if was_up and not same_run and reason is StopReason.LOST and self._restarts:
            # Its host failed and came back before anybody fenced it: it went with the host.
            self.stop_reason, self.restarting = StopReason.HOST_FAILED, True
            return
        self.stop_reason = reason
        self.failures = 1 if ran_well else self.failures + 1
        locked = self.seen_problem is not None and self.seen_problem.code == DISK_LOCKED
        self.retry_at = now + after(LOCKED_AGAIN_S if locked else FAIL_AGAIN_S, self.failures)
        if self.seen_problem is not None:
            self.problem = self.seen_problem
            self.shunned = self.host
        elif self.failures >= CRASH_LOOP:
            self.problem = CRASHES
        if self.failures >= GIVE_UP:
            why = self.problem.detail if self.problem else ""
            self.problem = Problem(
                code=GIVEN_UP, detail=f"It failed {self.failures} times in a row. {why}".strip()
            )

    # --- imaging ---------------------------------------------------------------------------

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
