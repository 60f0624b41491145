"""What only one copy of the service does: watch the storage domains, and clear up."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Final
from uuid import UUID

from roost_common import idempotency
from roost_common.errors import NotFound, Outage
from roost_common.lease import Lease
from roost_common.outbox import INBOX_KEPT, Relay, UnitOfWork
from roost_imaging.reaper import Reaper
from roost_imaging.repository import Disks, StorageDomains, Templates
from roost_imaging.storage import StorageKeeper
from roost_imaging.template_facts import created
from roost_imaging.wakers import Wake

TOMBSTONES_KEPT: Final[timedelta] = 4 * INBOX_KEPT
"""A deleted disk is remembered for longer than any message about it can wait somewhere: one that
came after its tombstone has gone would make the disk again."""


class Duties:
    """The steps of the loops that need the lease."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        relay: Relay,
        *,
        lease: Lease,
        storage: StorageKeeper,
        reaper: Reaper,
        on_taken: Wake,
    ) -> None:
        self._unit = unit_of_work
        self._relay = relay
        self._lease = lease
        self._storage = storage
        self._reaper = reaper
        self._on_taken = on_taken

    async def renew(self) -> None:
        """Take or keep the lease; taking it begins the duties at once."""
        held = self._lease.held
        if await self._lease.renew() and not held:
            self._on_taken()

    async def release(self) -> None:
        """Let another copy take over now; without a database it does so when the lease ends."""
        with contextlib.suppress(Outage):
            await self._lease.release()

    async def watch(self) -> None:
        """Look at every storage domain, all at once: one that hangs keeps no other waiting."""
        if not self._lease.held:
            return
        async with self._unit() as transaction:
            domains = await StorageDomains(transaction.session).all()
        await asyncio.gather(*(self._watch(domain.id) for domain in domains))

    async def announce(self) -> None:
        """Say again which versions are ready: an event said before a consumer's queue existed,
        or lost in a restored database, is made good, and consumers mind no repetition.
        """
        if not self._lease.held:
            return
        async with self._unit() as transaction:
            for template, version in await Templates(transaction.session).ready():
                transaction.emit(created(template, version))

    async def forget(self) -> None:
        """Drop what no message and no request can ask for any more; any copy may."""
        await self._relay.prune_inbox()
        await self._relay.pending()
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            await idempotency.forget(transaction, now - idempotency.KEPT)
            await Disks(transaction.session).prune(now - TOMBSTONES_KEPT)

    async def reap(self) -> bool:
        """One pass of the reaper."""
        return self._lease.held and await self._reaper.pass_once()

    async def _watch(self, domain_id: UUID) -> None:
        try:
            await self._storage.watch(domain_id)
        except NotFound:
            return  # forgotten meanwhile
