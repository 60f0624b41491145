"""The lease in force and what hangs on it, as the guard is told.

What the guard acts on stands in the lease file before others can count on it: a desktop is on the
list before it starts, or, where it came by itself, before anybody is told that it is here; and a
later deadline is written only when it was granted, or when the peers' files allow a few more
seconds. So an agent that is frozen or killed at any line leaves a file that ends too early, never
too late. That is also why a frozen agent's desktops end while the bus is away, though the others
hold on: nobody lengthens its lease.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import EnsureDesktop
from roost_common.contracts.host import LeaseGranted
from roost_common.errors import Invalid, Unavailable
from roost_host_agent import lease_file, metrics
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.lease import Lease, Verdict
from roost_host_agent.lease_file import LeaseFile
from roost_host_agent.peer_watch import PeerWatch
from roost_host_agent.restarted import RestartedDesktops, ends

logger = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a beat says of the lease."""

    lease_s: float = 0.0
    armed: bool = False
    witness: UUID | None = None


class Leasehold:
    """One run's. ``path`` is the lease file; None where there is nothing that a guard could kill.

    What an earlier run left in the file stays as it is until this run's first grant.
    """

    def __init__(
        self,
        agent_id: UUID,
        lease: Lease,
        *,
        lease_s: float,
        path: Path | None,
        peers: PeerWatch,
        desktops: RestartedDesktops,
        boot_time: Callable[[], float],
    ) -> None:
        self._agent_id = str(agent_id)
        self.lease = lease
        self.desktops = desktops
        self._lease_s = lease_s
        self._path = path
        self._peers = peers
        self._boot_time = boot_time
        self._written: LeaseFile | None = None
        self._ended_at: float | None = None
        self._failing = False
        self._guarded = path is None
        self._looked = False
        self._was_held = False

    def beat(self, sequence: int) -> Standing:
        """A beat is about to be sent: what it says, and from when its grant will count."""
        now = self._boot_time()
        standing = Standing(self._lease_s, self._armed(now), self._peers.witness(now))
        self._peers.sequence = sequence
        self.lease.sent(sequence, now, armed=standing.armed, witness=standing.witness)
        return standing

    async def grant(self, delivery: Delivery) -> None:
        """From this node's own queue of samples."""
        message = delivery.message
        if not isinstance(message, LeaseGranted):
            raise Invalid(
                "message.unexpected", "{name} is nothing for an agent.", name=message.name
            )
        before = self.lease.armed
        if self.lease.granted(message, self._boot_time()):
            self.write()
            if self.lease.armed != before:
                logger.info("lease.armed" if self.lease.armed else "lease.disarmed")

    def admit(self, command: EnsureDesktop) -> None:
        """A desktop is about to start: put it on the guard's list first.

        Raises `Unavailable` when it must not: the lease has ended, or the list cannot be written.
        """
        if self.lease.ended(self._boot_time()):
            raise Unavailable("host.lease-ended", "This host's lease has ended.")
        restart = command.spec.ha.restart
        self.desktops.starting(command.desktop_id, command.desktop_name, restart=restart)
        if not self.write() and self.lease.armed and restart:
            raise _no_list()

    def seen(self, view: DomainView) -> None:
        """Others are about to be told of a desktop here, which may have come by a migration: put it
        on the guard's list first.

        Raises `Unavailable` when they must not be told yet: the list cannot be written.
        """
        self.desktops.seen(view)
        if not self._is_listed((view,)):
            raise _no_list()

    def swept(self, views: tuple[DomainView, ...]) -> bool:
        """The same for all desktops that were found; whether others may be told of them."""
        self.desktops.sweep(views)
        self._looked = True
        return self._is_listed(views)

    def step(self, now: float) -> Verdict:
        """Judge once, and tell the guard what came of it."""
        self._guarded = self._path is None or lease_file.is_guarded(self._path, now)
        metrics.GUARDED.set(self._guarded)
        verdict = self.lease.step(now, self._peers.peers)
        if self.lease.held != self._was_held:
            self._was_held = self.lease.held
            logger.warning("lease.held" if self._was_held else "lease.held-no-more")
        until = self.lease.until
        metrics.LEASE_SECONDS.set(-1 if until is None else round(until - now, 1))
        metrics.LEASE_HELD.set(self._was_held)
        if verdict is Verdict.HOLD:
            self.write()
        return verdict

    def end(self, now: float) -> None:
        """The lease has ended: the guard need not wait for what stands in the file."""
        self._ended_at = now
        self.write()

    def write(self) -> bool:
        """Tell the guard, if there is anything new; False when it could not be told."""
        if self._path is None or self.lease.taken_over:
            return True
        deadline = self.lease.until if self._ended_at is None else self._ended_at
        wanted = LeaseFile(self._agent_id, deadline, self.desktops.domains())
        if wanted == self._written:
            return True
        try:
            lease_file.write(self._path, wanted)
        except OSError as error:
            if not self._failing:
                logger.warning("lease.file-failed", path=str(self._path), error=str(error))
            self._failing = True
            return False
        self._failing, self._written = False, wanted
        return True

    def _is_listed(self, views: tuple[DomainView, ...]) -> bool:
        """Whether the guard knows those of them that end with the lease, told now if need be; true
        as well while nobody counts on it."""
        told = () if self._written is None else self._written.domains
        known = {domain.uuid for domain in told}
        if all(str(view.mark.desktop_id) in known for view in views if ends(view)):
            return True
        return self.write() or not self.lease.armed

    def _armed(self, now: float) -> bool:
        """Others may count only on what the guard is there to do, and only when it has been seen
        what runs here: an earlier run's desktops must be on the list first."""
        told = self._path is None or (
            self._written is not None and self._written.deadline is not None and not self._failing
        )
        return self.lease.armed and told and self._guarded and self._looked


def _no_list() -> Unavailable:
    return Unavailable("host.no-lease-file", "The guard's list cannot be written.")


def inherited(path: Path | None) -> LeaseFile | None:
    """The lease that an earlier run on this node left in force; None when there is none."""
    if path is None:
        return None
    try:
        found = lease_file.read(path)
    except (OSError, ValueError) as error:
        logger.warning("lease.file-unreadable", path=str(path), error=str(error))
        return None
    return found if found is not None and found.deadline is not None else None
