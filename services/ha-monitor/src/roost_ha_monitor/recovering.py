"""The desktops of a fenced host: which are back, which were given up, and when all is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.alert import Severity
from roost_common.contracts.incident import IncidentState, Resolution
from roost_common.outbox import UnitOfWork
from roost_ha_monitor import alerting
from roost_ha_monitor.alerts import GIVEN_UP, Wanted
from roost_ha_monitor.desktop_fate import Fate, resolution, tell
from roost_ha_monitor.model import LostDesktop
from roost_ha_monitor.repository import Incidents

logger = log.get_logger(__name__)


class Recovering:
    """Settles what became of desktops, from inventory's views."""

    def __init__(self, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self._unit = unit_of_work
        self._clock = clock

    async def settle(self, incident_id: UUID) -> None:
        """Look at every desktop of one incident; resolve it when nobody is waited for."""
        now = self._clock.now()
        async with self._unit() as transaction:
            incidents = Incidents(transaction.session)
            row = await incidents.get(incident_id)
            if row.state is not IncidentState.RECOVERING or not row.lost_known:
                return
            lost = await incidents.lost(incident_id)
            for desktop, seen in lost:
                if desktop.fate is not Fate.WAITING:
                    continue
                fate, desktop.reason = tell(
                    desktop.revision, restart=desktop.restart, seen=seen.seen if seen else None
                )
                if fate is not Fate.WAITING:
                    desktop.fate = fate
                    desktop.settled_at = now
                    if fate is Fate.BACK and seen is not None:
                        desktop.settled_at = seen.running_at
            desktops = [desktop for desktop, _ in lost]
            fates = [desktop.fate for desktop in desktops]
            back = _back(desktops)
            ended = resolution(fates)
            if ended is None and min(back, default=None) == row.first_back_at:
                return
            row = await incidents.lock(incident_id)
            if row.state is not IncidentState.RECOVERING or not row.lost_known:
                return
            row.first_back_at = min(back, default=None)
            if ended is not None:
                row.all_back_at = max(back, default=None) if ended is Resolution.RECOVERED else None
                fact = row.resolve(
                    ended,
                    now,
                    _words(fates, row.kept),
                    back=fates.count(Fate.BACK),
                    given_up=fates.count(Fate.GIVEN_UP),
                )
                transaction.emit(fact)
                logger.info("incident.resolved", node=row.node, resolution=ended)

    async def keep_alerts(self) -> None:
        """An alert for every host whose incidents have desktops that are still given up."""
        async with self._unit() as transaction:
            given_up = await Incidents(transaction.session).given_up()
            wanted = {
                node: Wanted(
                    GIVEN_UP,
                    node,
                    Severity.ERROR,
                    f"{count} desktops of host {node} were given up after it had failed.",
                )
                for node, count in given_up.items()
            }
            await alerting.keep(transaction, GIVEN_UP, wanted, self._clock.now())


def _back(desktops: Sequence[LostDesktop]) -> list[datetime]:
    return [
        desktop.settled_at
        for desktop in desktops
        if desktop.fate is Fate.BACK and desktop.settled_at is not None
    ]


def _words(fates: Sequence[Fate], kept: int) -> str:
    told = f"{fates.count(Fate.BACK)} desktops run again"
    if Fate.GIVEN_UP in fates:
        told += f", {fates.count(Fate.GIVEN_UP)} were given up"
    if Fate.LEFT in fates:
        told += f", {fates.count(Fate.LEFT)} are not to be restarted"
    if kept:
        told += (
            f". {kept} more may still run there: its lease has ended only those that are "
            "restarted; confirm this incident once you know that the host is off"
        )
    return f"{told}."
