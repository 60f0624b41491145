"""Live migration as the agent needs it: a Protocol beside `Hypervisor`, which most of it never
sees.

A guest on its way is in two domains. At its source it counts as running, `DomainView.migrating`,
until the hypervisor has seen it run at its target; then it is absent there. At its target it is
absent until it runs: nothing can be asked of it before, and above all it must not be continued.
"""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

from roost_common.contracts.migration import MigrateDesktop
from roost_common.errors import Conflict, Invalid, Unavailable
from roost_host_agent.hypervisor.driver import Hypervisor

MIGRATING: Final = "desktop.migrating"
CANCELLED: Final = "desktop.migration-cancelled"
FAILED: Final = "desktop.migration-failed"


class Migrations(Protocol):
    """What a driver can do about them; calls come from one event loop."""

    async def migrate(self, command: MigrateDesktop) -> None:
        """Move the guest; returns when it is gone from here and runs there.

        The mark remembers ``migration_id`` from the moment on at which it begins. At the target
        the mark has the command's generation, and the run's ``boot_id``. SPICE clients are carried
        over; the ticket they hold stays good for as long as that may take.

        Cancelling the call leaves the migration alone. Refuses with ``desktop.not-running``
        (``boot_id`` included), ``desktop.migrating``, ``host.unreachable``,
        ``desktop.migration-cancelled``, ``desktop.migration-failed``: then the guest goes on here.
        After `Outage` nobody knows: `migration_percent` and `Hypervisor.domains` tell.
        """
        ...

    async def migration_percent(self, desktop_id: UUID) -> float | None:
        """How much of the guest has been sent, 0 to 100; None when it is not leaving.

        It falls again when the guest writes faster than it can be sent.
        """
        ...

    async def cancel_migration(self, desktop_id: UUID) -> None:
        """Have the guest stay. Nothing when it is not leaving or it is too late for that."""
        ...


class MigratingHypervisor(Hypervisor, Migrations, Protocol):
    """A whole driver."""


def migrating() -> Conflict:
    """Not while the guest is on its way: it can be asked again when that is over."""
    return Conflict(MIGRATING, "The desktop is being moved to or from this host.")


def cancelled() -> Conflict:
    """Somebody wanted it to stay."""
    return Conflict(CANCELLED, "The migration was cancelled; the desktop runs where it was.")


def failed(reason: str) -> Conflict:
    """It stayed, for a reason of the hypervisor's."""
    return Conflict(FAILED, "{reason}", reason=reason)


def unreachable(address: str, reason: str) -> Unavailable:
    """The target does not answer."""
    return Unavailable(
        "host.unreachable", "{address} does not answer: {reason}", address=address, reason=reason
    )


def to_itself() -> Invalid:
    """The target is the source."""
    return Invalid("desktop.migration-failed", "The desktop is on that host already.")
