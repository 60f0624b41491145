"""Hosts, alerts, and who decides."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from roost_common import log
from roost_common.clock import Clock
from roost_common.errors import Conflict, Invalid
from roost_common.http import Admin, Page, PageQuery, Paging, encode_cursor
from roost_common.outbox import UnitOfWork
from roost_ha_monitor import alerting
from roost_ha_monitor.alerts import OF_HOSTS
from roost_ha_monitor.api.cursor import time_cursor
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.leading import LEASE
from roost_ha_monitor.repository import Alerts, Armings, FenceDevices, Hosts, Incidents, holder
from roost_ha_monitor.schemas import AlertView, DisarmRequest, HostView, LeaderView, standing

logger = log.get_logger(__name__)


class Api:
    """The endpoints with what they need."""

    def __init__(self, unit_of_work: UnitOfWork, ears: Ears, clock: Clock, copy_id: UUID) -> None:
        self._unit = unit_of_work
        self._ears = ears
        self._clock = clock
        self._copy_id = copy_id
        self.router = APIRouter(prefix="/api/v1/ha", tags=["high availability"])
        add = self.router.add_api_route
        add("/hosts", self.list_hosts, methods=["GET"])
        add("/hosts/{node}", self.show_host, methods=["GET"])
        add("/hosts/{node}", self.remove_host, methods=["DELETE"], status_code=204)
        add("/alerts", self.list_alerts, methods=["GET"])
        add("/alerts/{alert_id}/acknowledge", self.acknowledge, methods=["POST"])
        add("/leader", self.leader, methods=["GET"])
        add("/disarm", self.disarm, methods=["POST"])
        add("/arm", self.arm, methods=["POST"])

    async def list_hosts(self, _who: Admin, paging: Paging) -> Page[HostView]:
        """Every watched host, by name."""
        after = _name_cursor(paging)
        async with self._unit() as transaction:
            rows, total = await Hosts(transaction.session).page(after, paging.limit)
        items = [HostView.of(host, self._ears.last_beat_at(host.node)) for host in rows]
        more = len(items) > paging.limit
        items = items[: paging.limit]
        return Page(items=items, next=encode_cursor(items[-1].node) if more else None, total=total)

    async def show_host(self, _who: Admin, node: str) -> HostView:
        """One host."""
        async with self._unit() as transaction:
            host = await Hosts(transaction.session).get(node)
            return HostView.of(host, self._ears.last_beat_at(node))

    async def remove_host(self, who: Admin, node: str) -> None:
        """Watch a decommissioned host no more; 409 while it beats, and while its desktops may
        still run: confirm its incident first. Its alerts are cleared, its fence devices forgotten.
        """
        now = self._clock.now()
        async with self._unit() as transaction:
            host = await Hosts(transaction.session).lock(node)
            if await Incidents(transaction.session).unfenced(node) is not None:
                raise Conflict(
                    "ha.incident-open",
                    "Nothing has made sure that {node} is off: confirm its incident first.",
                    node=node,
                )
            host.remove(now, who.name)
            await FenceDevices(transaction.session).replace(node, [])
            for alert in OF_HOSTS:
                await alerting.clear(transaction, (alert, node), now)

    async def list_alerts(
        self,
        _who: Admin,
        paging: Paging,
        open_only: Annotated[
            bool, Query(alias="open", description="Only those that are not over")
        ] = False,
    ) -> Page[AlertView]:
        """Alerts, newest first."""
        after = time_cursor(paging)
        async with self._unit() as transaction:
            rows, total = await Alerts(transaction.session).page(
                open_only=open_only, after=after, limit=paging.limit
            )
        items = [AlertView.of(alert) for alert in rows[: paging.limit]]
        more = len(rows) > paging.limit
        last = encode_cursor(items[-1].raised_at.isoformat(), str(items[-1].id)) if more else None
        return Page(items=items, next=last, total=total)

    async def acknowledge(self, who: Admin, alert_id: UUID) -> AlertView:
        """Say that somebody takes care; saying it again changes nothing. 409 once it is over."""
        async with self._unit() as transaction:
            alert = await Alerts(transaction.session).lock(alert_id)
            alert.acknowledge(who.name, self._clock.now())
            return AlertView.of(alert)

    async def leader(self, _who: Admin) -> LeaderView:
        """Which copy decides now, and whether it may act."""
        async with self._unit() as transaction:
            held = await holder(transaction.session, LEASE)
            arming = await Armings(transaction.session).now()
        who, term, expires_at = held or (None, None, None)
        return LeaderView(
            holder=who,
            term=term,
            expires_at=expires_at,
            answered_by=self._copy_id,
            **standing(arming),
        )

    async def disarm(self, who: Admin, wish: DisarmRequest | None = None) -> LeaderView:
        """Fence nobody and grant nobody a lease that counts, until it is armed again: for works
        on the site's network or power. What is being switched off is brought to its end."""
        return await self._switch(who, disarmed=True, reason=wish.reason if wish else "")

    async def arm(self, who: Admin) -> LeaderView:
        """High availability acts again."""
        return await self._switch(who, disarmed=False, reason="")

    async def _switch(self, who: Admin, *, disarmed: bool, reason: str) -> LeaderView:
        async with self._unit() as transaction:
            await Armings(transaction.session).switch(
                disarmed=disarmed, by=who.name, at=self._clock.now(), reason=reason
            )
        logger.info("ha.disarmed" if disarmed else "ha.armed", by=who.name)
        return await self.leader(who)


def _name_cursor(paging: PageQuery) -> str | None:
    if paging.after is None:
        return None
    if len(paging.after) != 1:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.")
    return paging.after[0]
