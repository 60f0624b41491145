"""``/api/v1/ha``: for administrators. Every copy answers, whoever decides."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from roost_common.clock import Clock
from roost_common.errors import Invalid
from roost_common.http import Admin, Page, PageQuery, Paging, encode_cursor
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.alerts import HOST_DOWN, LIBVIRT_DOWN
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.leading import LEASE
from roost_ha_monitor.notifications.announce import announce
from roost_ha_monitor.repository import Alerts, Hosts, holder
from roost_ha_monitor.schemas import AlertView, HostView, LeaderView

_ALERT_CURSOR: TypeAdapter[tuple[AwareDatetime, UUID]] = TypeAdapter(tuple[AwareDatetime, UUID])


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
        """Watch a decommissioned host no more; 409 while it beats. Its alerts are cleared."""
        now = self._clock.now()
        async with self._unit() as transaction:
            host = await Hosts(transaction.session).lock(node)
            host.remove(now, who.name)
            for alert in (HOST_DOWN, LIBVIRT_DOWN):
                over = await Alerts(transaction.session).lock_open((alert, node))
                if over is not None:
                    await announce(transaction, over.clear(now, host.reason))

    async def list_alerts(
        self,
        _who: Admin,
        paging: Paging,
        open_only: Annotated[
            bool, Query(alias="open", description="Only those that are not over")
        ] = False,
    ) -> Page[AlertView]:
        """Alerts, newest first."""
        after = _alert_cursor(paging)
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
        """Which copy decides now."""
        async with self._unit() as transaction:
            held = await holder(transaction.session, LEASE)
        who, term, expires_at = held or (None, None, None)
        return LeaderView(holder=who, term=term, expires_at=expires_at, answered_by=self._copy_id)


def _name_cursor(paging: PageQuery) -> str | None:
    if paging.after is None:
        return None
    if len(paging.after) != 1:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.")
    return paging.after[0]


def _alert_cursor(paging: PageQuery) -> tuple[datetime, UUID] | None:
    if paging.after is None:
        return None
    try:
        return _ALERT_CURSOR.validate_python(paging.after)
    except ValidationError:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.") from None
