"""What imaging says of desktops' disks."""

from __future__ import annotations

from collections.abc import Callable

from roost_common.contracts.base import Delivery
from roost_common.contracts.disk import DiskDeleted, DiskFact, DiskReady, DiskRefused
from roost_common.outbox import UnitOfWork
from roost_inventory.changes import published
from roost_inventory.repository import Desktops, Readings


class Disks:
    """Handler of disk events."""

    def __init__(self, unit_of_work: UnitOfWork, wake: Callable[[], None]) -> None:
        self._unit = unit_of_work
        self._wake = wake

    async def told(self, delivery: Delivery, event: DiskFact) -> None:
        """Take it in, unless it is of a disk that is not wanted any more."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            now = self._unit.clock.now()
            desktop = await Desktops(transaction.session).lock(event.disk_id)
            if desktop is None:
                return  # a disk that was never a desktop's
            taken = False
            with published(transaction, desktop):
                match event:
                    case DiskReady():
                        taken = desktop.note_disk(event.generation, event.path)
                    case DiskRefused():
                        taken = desktop.note_disk_refused(
                            event.generation, event.problem, now, retryable=event.retryable
                        )
                    case DiskDeleted():
                        taken = desktop.note_disk_gone(event.generation)
                    case _:
                        raise TypeError(f"no disk event of ours: {event.name}")
            if not taken:
                return
            if not isinstance(event, DiskRefused):
                # What was read from inside was the old disk's.
                await Readings(transaction.session).forget([desktop.id])
            desktop.touch(now)
            transaction.after_commit(self._wake)
