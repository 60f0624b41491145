"""Messages in: which method takes which message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from roost_common import topology
from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopCreated,
    DesktopDeleted,
    DesktopReimaged,
    DesktopRestarted,
    DesktopStarted,
    DesktopStartRefused,
    DesktopStopped,
)
from roost_common.contracts.host import (
    HostActivated,
    HostApproved,
    HostDesktopsLost,
    HostMaintenance,
    SetHostPower,
)
from roost_common.contracts.migration import DesktopMigrated
from roost_common.topology import QueueSpec
from roost_ha_monitor.losses import Losses
from roost_ha_monitor.maintenance import Maintenance
from roost_ha_monitor.powering import Powering

SERVICE: Final = "ha-monitor"
VIEWS: Final = (
    DesktopCreated,
    DesktopStarted,
    DesktopRestarted,
    DesktopStopped,
    DesktopChanged,
    DesktopReimaged,
    DesktopStartRefused,
    DesktopDeleted,
    DesktopMigrated,
)
"""Every event that carries a desktop's view."""

Method = Callable[[Delivery, Any], Awaitable[None]]


class Handlers:
    """The routing table; the work queue calls it, in any copy."""

    def __init__(self, losses: Losses, maintenance: Maintenance, powering: Powering) -> None:
        self.work: dict[type[Message], Method] = {
            HostDesktopsLost: losses.lost,
            HostMaintenance: maintenance.began,
            HostActivated: maintenance.ended,
            HostApproved: maintenance.ended,
            SetHostPower: powering.ordered,
            **dict.fromkeys(VIEWS, losses.seen),
        }

    @property
    def queue(self) -> QueueSpec:
        """Shared by the copies."""
        return topology.service_queue(SERVICE, *self.work)

    async def handle(self, delivery: Delivery) -> None:
        """One message."""
        await self.work[type(delivery.message)](delivery, delivery.message)
