"""Messages in: which method takes which message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from roost_common import topology
from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    DomainObserved,
    ReimageDesktop,
    SetDesktopPower,
)
from roost_common.contracts.disk import DiskDeleted, DiskReady, DiskRefused
from roost_common.contracts.host import (
    HostDown,
    HostFenced,
    HostPoweredOff,
    HostPoweredOn,
    HostPowerRefused,
    HostRecovered,
    HostReport,
    HostSuspected,
    HostUp,
)
from roost_common.contracts.migration import MigrationEnded, MigrationProgress
from roost_common.contracts.session import (
    PoolChanged,
    SessionConnected,
    SessionDisconnected,
    SessionEnded,
    SessionRequested,
)
from roost_common.contracts.template import TemplateCreated, TemplateDeleted
from roost_common.outbox import UnitOfWork
from roost_inventory.commands import Commands
from roost_inventory.disks import Disks
from roost_inventory.facts import Facts
from roost_inventory.losses import Losses
from roost_inventory.migrating import Migrating
from roost_inventory.observations import Observations
from roost_inventory.reports import Reports
from roost_inventory.settings import Settings

SERVICE: Final = "inventory"

Method = Callable[[Delivery, Any], Awaitable[None]]


class Handlers:
    """The routing table; the two queues call it."""

    def __init__(
        self, unit_of_work: UnitOfWork, settings: Settings, wake: Callable[[], None]
    ) -> None:
        commands = Commands(unit_of_work, settings, wake)
        observations = Observations(unit_of_work, wake)
        migrating = Migrating(unit_of_work, settings, wake)
        disks = Disks(unit_of_work, wake)
        facts = Facts(unit_of_work, wake)
        losses = Losses(unit_of_work, wake)
        reports = Reports(unit_of_work, settings, wake)
        self.work: dict[type[Message], Method] = {
            CreateDesktop: commands.create,
            SetDesktopPower: commands.set_power,
            ReimageDesktop: commands.reimage,
            DeleteDesktop: commands.delete,
            DomainObserved: observations.observed,
            MigrationEnded: migrating.ended,
            DiskReady: disks.told,
            DiskRefused: disks.told,
            DiskDeleted: disks.told,
            HostUp: facts.health,
            HostSuspected: facts.health,
            HostDown: facts.health,
            HostRecovered: facts.health,
            HostFenced: losses.fenced,
            HostPoweredOff: facts.health,
            HostPoweredOn: facts.health,
            HostPowerRefused: facts.power_refused,
            PoolChanged: facts.pool,
            TemplateCreated: facts.template,
            TemplateDeleted: facts.template_deleted,
            SessionRequested: facts.session,
            SessionConnected: facts.session,
            SessionDisconnected: facts.session,
            SessionEnded: facts.session,
        }
        self.samples: dict[type[Message], Method] = {
            HostReport: reports.reported,
            MigrationProgress: migrating.progress,
        }

    async def handle(self, delivery: Delivery) -> None:
        """Hand a message to its method."""
        message = type(delivery.message)
        method = self.work.get(message) or self.samples[message]
        await method(delivery, delivery.message)

    @property
    def work_queue(self) -> topology.QueueSpec:
        """Where commands and events come from."""
        return topology.service_queue(SERVICE, *self.work)

    @property
    def samples_queue(self) -> topology.QueueSpec:
        """Where reports come from."""
        return topology.samples_queue(SERVICE, *self.samples)
