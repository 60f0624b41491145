"""The loop that empties hosts for maintenance.

Several copies may run it at once: each desktop is moved with its row locked, by whoever still
finds that it ought to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from roost_common import log
from roost_common.contracts.desktop import DesktopState
from roost_common.contracts.host import HostMaintenance
from roost_common.errors import Conflict
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory.evacuation_plan import (
    Evacuation,
    Resident,
    Stay,
    leaving,
    trouble,
)
from roost_inventory.migrating import Migrating
from roost_inventory.model import Administrative, Desktop
from roost_inventory.model.migration import Cause
from roost_inventory.repository import Desktops, Hosts, Migrations
from roost_inventory.settings import Settings

logger = log.get_logger(__name__)

EVERY_S: Final = 2.0


class Evacuations:
    """One pass of the loop."""

    def __init__(self, unit_of_work: UnitOfWork, settings: Settings, migrating: Migrating) -> None:
        self._unit = unit_of_work
        self._at_once = settings.evacuations_at_once
        self._migrating = migrating

    async def step(self) -> None:
        """Have the next desktops leave the hosts that are to be empty."""
        async with self._unit() as transaction:
            names = await Hosts(transaction.session).preparing()
        for name in names:
            for desktop in await self._look(name):
                await self._move(name, desktop)

    async def _look(self, name: str) -> tuple[UUID, ...]:
        """The desktops to move now; a host that is empty is in maintenance from now on."""
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            hosts = Hosts(transaction.session)
            host = await hosts.by_name(name)
            if host is None or host.evacuation is None:
                return ()
            residents = await self._residents(transaction, name, host.evacuation)
            told = host.evacuation.told(trouble(residents), {one.id for one in residents})
            if residents and told == host.evacuation:
                return leaving(residents, self._at_once, now)
            host = await hosts.lock_by_name(name)
            if host is None or host.evacuation is None:
                return ()
            if residents:
                host.evacuation = host.evacuation.told(told.problem, {one.id for one in residents})
                return leaving(residents, self._at_once, now)
            # With its row locked nobody gives it a desktop.
            empty = not await Desktops(transaction.session).ids_on(name)
            if empty and host.enter_maintenance(now):
                transaction.emit(HostMaintenance(node=name, decided_at=host.decided_at))
                logger.info("host.evacuated", host=name)
        return ()

    async def _residents(
        self, transaction: Transaction, name: str, evacuation: Evacuation, only: UUID | None = None
    ) -> list[Resident]:
        desktops: Sequence[Desktop]
        if only is None:
            desktops = await Desktops(transaction.session).on(name)
        else:
            locked = await Desktops(transaction.session).lock(only)
            desktops = [] if locked is None or not locked.knows(name) else [locked]
        failed = await Migrations(transaction.session).failures(name, evacuation.since)
        residents = []
        for one in desktops:
            refusal, attempt = evacuation.refusals.get(one.id), failed.get(one.id)
            times: list[datetime] = [refusal.at] if refusal else []
            if attempt is not None and attempt.failed_at is not None:
                times.append(attempt.failed_at)
            by_refusal = refusal is not None and refusal.at == max(times)
            problem = refusal.problem if refusal and by_refusal else attempt and attempt.problem
            residents.append(
                Resident(
                    id=one.id,
                    name=one.name,
                    stay=_stay(one, name),
                    memory_mib=one.reserved_memory_mib,
                    failures=(refusal.failures if refusal else 0)
                    + (attempt.failures if attempt else 0),
                    failed_at=max(times, default=None),
                    problem=problem,
                )
            )
        return residents

    async def _move(self, name: str, desktop_id: UUID) -> None:
        """Begin one migration, unless something has changed since it was decided."""
        now = self._unit.clock.now()
        with log.bound_contextvars(correlation_id=str(uuid4())):
            async with self._unit() as transaction:
                hosts = Hosts(transaction.session)
                host = await hosts.by_name(name)
                if host is None or host.evacuation is None:
                    return
                residents = await self._residents(
                    transaction, name, host.evacuation, only=desktop_id
                )
                desktop = await Desktops(transaction.session).get(desktop_id)
                if desktop is None or not leaving(residents, 1, now):
                    return
                try:
                    await self._migrating.begin(
                        transaction,
                        desktop,
                        None,
                        f"{name} is prepared for maintenance.",
                        log.current("correlation_id") or str(uuid4()),
                        cause=Cause.MAINTENANCE,
                    )
                except Conflict as refusal:
                    logger.info("evacuation.refused", desktop=str(desktop_id), code=refusal.code)
                    host = await hosts.lock_by_name(name)
                    if host is not None and host.administrative is Administrative.PREPARING:
                        evacuation = host.evacuation or Evacuation(since=now)
                        host.evacuation = evacuation.refusing(desktop_id, refusal.problem, now)


def _stay(desktop: Desktop, name: str) -> Stay:
    if desktop.host != name:
        return Stay.BETWEEN
    if desktop.migration is not None:
        return Stay.MOVES
    return Stay.RUNS if desktop.state is DesktopState.RUNNING else Stay.BETWEEN
