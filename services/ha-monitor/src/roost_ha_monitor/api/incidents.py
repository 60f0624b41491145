"""``/api/v1/ha/incidents``: what happened to hosts, and what became of their desktops."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from roost_common.clock import Clock
from roost_common.contracts.host import FencedBy, Health
from roost_common.contracts.incident import IncidentState, Resolution
from roost_common.errors import Conflict, Unavailable
from roost_common.http import Admin, ApiModel, Page, Paging, encode_cursor
from roost_common.outbox import Transaction, UnitOfWork
from roost_ha_monitor.api.cursor import time_cursor
from roost_ha_monitor.desktop_fate import Fate
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.fencing.round import ACCEPT_S
from roost_ha_monitor.following import fenced
from roost_ha_monitor.model import Alert, Desktop, FencingAttempt, Host, Incident, LostDesktop
from roost_ha_monitor.repository import Alerts, Hosts, Incidents
from roost_ha_monitor.schemas import AlertView
from roost_ha_monitor.witness import Witness

AFTERWARDS: Final = timedelta(minutes=1)
"""An alert that follows so soon belongs to it: desktops that are given up are told of seconds after
it has ended."""


class IncidentView(ApiModel):
    """One failure of one host."""

    id: UUID
    node: str
    state: IncidentState
    detail: str
    noticed_at: datetime
    last_heard_at: datetime | None
    forced_by: str | None = Field(description="Who had it fenced without a failure")
    fenced_by: FencedBy | None
    fenced_at: datetime | None
    kept: int = Field(
        description="Desktops that may still run there: a lease ends only those that are restarted"
    )
    confirmed_by: str | None = Field(description="Who said that they switched it off")
    first_back_at: datetime | None
    all_back_at: datetime | None
    resolved_at: datetime | None
    resolution: Resolution | None

    @classmethod
    def of(cls, row: Incident) -> IncidentView:
        """The row."""
        return cls(**{name: getattr(row, name) for name in IncidentView.model_fields})


class AttemptView(ApiModel):
    """One fence device told to switch the host off."""

    agent: str
    started_at: datetime
    ended_at: datetime | None
    fenced: bool
    outcome: str

    @classmethod
    def of(cls, row: FencingAttempt) -> AttemptView:
        """The row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class LostView(ApiModel):
    """A desktop that was on the host."""

    id: UUID
    name: str
    priority: int
    fate: Fate
    reason: str
    settled_at: datetime | None

    @classmethod
    def of(cls, lost: LostDesktop, _seen: Desktop | None) -> LostView:
        """The row."""
        return cls(
            id=lost.desktop_id,
            name=lost.name,
            priority=lost.priority,
            fate=lost.fate,
            reason=lost.reason,
            settled_at=lost.settled_at,
        )


class IncidentWhole(IncidentView):
    """The same with all that was tried, every desktop, and the alerts."""

    attempts: list[AttemptView]
    desktops: list[LostView]
    alerts: list[AlertView] = Field(description="About its host, that were out meanwhile")

    @classmethod
    def whole(
        cls,
        row: Incident,
        attempts: Sequence[FencingAttempt],
        lost: Sequence[tuple[LostDesktop, Desktop | None]],
        alerts: Sequence[Alert],
    ) -> IncidentWhole:
        """The rows."""
        return cls(
            **IncidentView.of(row).model_dump(),
            attempts=[AttemptView.of(each) for each in attempts],
            desktops=[LostView.of(*each) for each in lost],
            alerts=[AlertView.of(each) for each in alerts],
        )


class IncidentsApi:
    """The endpoints with what they need."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        ears: Ears,
        witness: Witness,
        clock: Clock,
    ) -> None:
        self._unit = unit_of_work
        self._ears = ears
        self._witness = witness
        self._clock = clock
        self.router = APIRouter(prefix="/api/v1/ha/incidents", tags=["high availability"])
        add = self.router.add_api_route
        add("", self.list_incidents, methods=["GET"])
        add("/{incident_id}", self.show, methods=["GET"])
        add("/{incident_id}/confirm", self.confirm, methods=["POST"])

    async def list_incidents(
        self,
        _who: Admin,
        paging: Paging,
        open_only: Annotated[
            bool, Query(alias="open", description="Only those that are not resolved")
        ] = False,
    ) -> Page[IncidentView]:
        """Incidents, newest first."""
        async with self._unit() as transaction:
            rows, total = await Incidents(transaction.session).page(
                open_only=open_only, after=time_cursor(paging), limit=paging.limit
            )
        items = [IncidentView.of(row) for row in rows[: paging.limit]]
        last = None
        if len(rows) > paging.limit:
            last = encode_cursor(items[-1].noticed_at.isoformat(), str(items[-1].id))
        return Page(items=items, next=last, total=total)

    async def show(self, _who: Admin, incident_id: UUID) -> IncidentWhole:
        """One incident with what was tried, every desktop, and the alerts meanwhile."""
        async with self._unit() as transaction:
            incidents = Incidents(transaction.session)
            row = await incidents.get(incident_id)
            return IncidentWhole.whole(
                row,
                await incidents.attempts(incident_id),
                await incidents.lost(incident_id),
                await Alerts(transaction.session).during(
                    row.node, row.noticed_at, row.resolved_at and row.resolved_at + AFTERWARDS
                ),
            )

    async def confirm(self, who: Admin, incident_id: UUID) -> IncidentView:
        """\"I have switched this host off\": its desktops are restarted elsewhere.

        **Be sure.** A host that runs on destroys its desktops' disks together with those that are
        started. 409 while it beats or takes connections, and once the incident is over; saying it
        again changes nothing. Where the host's lease has fenced it and it is still down, this
        frees also the desktops that the lease does not end.
        """
        async with self._unit() as transaction:
            incident = await Incidents(transaction.session).get(incident_id)
            known = await Hosts(transaction.session).lock_all([incident.node])
            host = known.get(incident.node)
        if incident.unsure:
            await self._silent(incident.node, host)
        async with self._unit() as transaction:
            host = (await Hosts(transaction.session).lock_all([incident.node])).get(incident.node)
            incident = await Incidents(transaction.session).lock(incident_id)
            if incident.fenced_by is not FencedBy.HUMAN:
                self._not_beating(incident.node, host)
                if not incident.unfenced:
                    await self._still_down(transaction, incident, host)
                detail = f"{who.name} said that they switched it off."
                await fenced(transaction, incident, FencedBy.HUMAN, self._clock.now(), detail)
                incident.confirmed_by = who.name
            return IncidentView.of(incident)

    @staticmethod
    async def _still_down(transaction: Transaction, incident: Incident, host: Host | None) -> None:
        """Raises `Conflict` (``incident.over``) where a fenced host has been back since."""
        back = host is not None and host.health not in (Health.DOWN, None)
        newer = await Incidents(transaction.session).unfenced(incident.node)
        if back or newer is not None:
            raise Conflict("incident.over", "{node} has been back since.", node=incident.node)

    async def _silent(self, node: str, host: Host | None) -> None:
        self._not_beating(node, host)
        pulse = self._ears.pulses.get(node)
        address = (pulse.address if pulse else "") or (host.address if host else "")
        answers = await self._witness.accepts(address, ACCEPT_S)
        if answers:
            raise Conflict(
                "host.still-answers",
                "{node} is not off: {answers} at {address}.",
                node=node,
                answers=answers,
                address=address,
            )

    def _not_beating(self, node: str, host: Host | None) -> None:
        if self._ears.observing_since(self._clock.monotonic()) is None:
            raise Unavailable("ha.deaf", "The bus cannot be heard now: nobody knows who beats.")
        alive = host is not None and host.health in (Health.UP, Health.RECOVERED)
        if alive or self._ears.beats(node):
            raise Conflict("host.beats", "{node} beats: it is not off.", node=node)
