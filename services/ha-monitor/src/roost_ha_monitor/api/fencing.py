"""``/api/v1/ha/fencing``: hosts' fence devices. Values of secret options never leave again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from roost_common.clock import Clock
from roost_common.errors import Conflict
from roost_common.http import Admin, ApiModel
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.api.incidents import IncidentView
from roost_ha_monitor.fencing.devices import Devices, Wish
from roost_ha_monitor.fencing.metadata import is_secret
from roost_ha_monitor.fencing.plan import Said
from roost_ha_monitor.opening import open_incident
from roost_ha_monitor.repository import FenceDevices, Hosts, Incidents

Option = Annotated[str, Field(max_length=1000)] | int | bool
MAX_DEVICES = 8


class DeviceRequest(ApiModel):
    """A fence device: one of the agents on ha-monitor's machines and its options."""

    agent: Annotated[str, Field(pattern=r"^fence_[a-z0-9_]{1,57}$")]
    options: Annotated[dict[str, Option], Field(max_length=64)] = {}

    @property
    def wish(self) -> Wish:
        """With every value as the agents take it."""
        return Wish(self.agent, {name: _text(value) for name, value in self.options.items()})


DevicesRequest = (
    DeviceRequest | Annotated[list[DeviceRequest], Field(min_length=1, max_length=MAX_DEVICES)]
)


class DeviceView(ApiModel):
    """A fence device as it is kept."""

    agent: str
    options: dict[str, str | None] = Field(description="null: it is secret")
    changed_at: datetime
    changed_by: str
    checked_at: datetime | None
    problem: str = Field(description="Why its last check failed; empty: it did not")


class FencingView(ApiModel):
    """A host's fence devices, in the order in which they are tried."""

    node: str
    devices: list[DeviceView]


class DeviceTest(ApiModel):
    """What a fence device says now."""

    agent: str
    power: str | None = Field(description="on, off, or null where it cannot tell")
    problem: str


class FencingApi:
    """The endpoints with what they need."""

    def __init__(self, unit_of_work: UnitOfWork, devices: Devices, clock: Clock) -> None:
        self._unit = unit_of_work
        self._devices = devices
        self._clock = clock
        self.router = APIRouter(prefix="/api/v1/ha/fencing", tags=["high availability"])
        add = self.router.add_api_route
        add("/{node}", self.show, methods=["GET"])
        add("/{node}", self.put, methods=["PUT"])
        add("/{node}", self.remove, methods=["DELETE"], status_code=204)
        add("/{node}/test", self.test, methods=["POST"])
        add("/{node}/fence", self.fence, methods=["POST"])

    async def show(self, _who: Admin, node: str) -> FencingView:
        """A host's fence devices; secret values are left out."""
        async with self._unit() as transaction:
            await Hosts(transaction.session).get(node)
            rows = await FenceDevices(transaction.session).of(node)
        devices = []
        for row in rows:
            ready = self._devices.ready(row)
            shown = {name: None if is_secret(name) else v for name, v in ready.options.items()}
            devices.append(
                DeviceView(
                    agent=row.agent,
                    options=shown,
                    changed_at=row.changed_at,
                    changed_by=row.changed_by,
                    checked_at=row.checked_at,
                    problem=ready.problem or row.problem,
                )
            )
        return FencingView(node=node, devices=devices)

    async def put(self, who: Admin, node: str, wanted: DevicesRequest) -> FencingView:
        """One device or several, in the order in which they are to be tried; they take the place
        of those there were. Each is asked for the host's state first, and must answer."""
        requests = wanted if isinstance(wanted, list) else [wanted]
        await self._devices.put(node, [request.wish for request in requests], who.name)
        return await self.show(who, node)

    async def remove(self, _who: Admin, node: str) -> None:
        """The host has no fence device any more."""
        await self._devices.remove(node)

    async def test(self, _who: Admin, node: str) -> list[DeviceTest]:
        """Ask each of a host's devices whether the host is on; nothing is switched."""
        return [
            DeviceTest(
                agent=device.agent,
                power=answer.said.value if answer.said in (Said.ON, Said.OFF) else None,
                problem=problem,
            )
            for device, answer, problem in await self._devices.test(node)
        ]

    async def fence(self, who: Admin, node: str) -> IncidentView:
        """Switch a host off now, whether it beats or not, and restart its desktops elsewhere:
        for one that hangs. 409 where it has no device."""
        async with self._unit() as transaction:
            host = await Hosts(transaction.session).lock(node)
            if not await FenceDevices(transaction.session).of(node):
                raise Conflict("fencing.no-device", "{node} has no fence device.", node=node)
            incidents = Incidents(transaction.session)
            incident = await incidents.unfenced(node)
            if incident is None:
                now = self._clock.now()
                incident = await open_incident(transaction, host, now, forced_by=who.name)
                assert incident is not None  # noqa: S101 - none was open, and the host is locked
            else:
                incident.force(who.name)
            return IncidentView.of(incident)


def _text(value: Option) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
