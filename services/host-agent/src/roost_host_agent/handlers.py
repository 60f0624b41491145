"""What comes from the bus: commands for this node, and questions to it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from roost_common import log
from roost_common.contracts.base import Body, Delivery, Query
from roost_common.contracts.desktop import EnsureDesktop
from roost_common.contracts.display import (
    CloseDisplay,
    DisplayTicket,
    Done,
    OpenDisplay,
    RebootDesktop,
)
from roost_common.contracts.migration import CancelMigration, MigrateDesktop
from roost_common.errors import Invalid, RoostError
from roost_host_agent import metrics
from roost_host_agent.hypervisor.driver import Hypervisor
from roost_host_agent.migrating import Migrating
from roost_host_agent.reconciler import Reconciler

logger = log.get_logger(__name__)


@dataclass(frozen=True)
class Trust:
    """By what a client recognises this node's SPICE servers over TLS."""

    ca: str = ""
    """PEM of the authority; empty without TLS."""
    host_subject: str = ""


class Handlers:
    """One method per way in."""

    def __init__(
        self,
        driver: Hypervisor,
        reconciler: Reconciler,
        trust: Trust,
        *,
        agent_id: UUID | None = None,
        migrating: Migrating | None = None,
    ) -> None:
        """``agent_id``: of this run; commands that name another one are dropped.

        Without ``migrating`` nothing is moved away from here.
        """
        self._migrating = migrating
        self._agent_id = agent_id
        self._driver = driver
        self._reconciler = reconciler
        self._trust = trust

    async def command(self, delivery: Delivery) -> None:
        """From this node's queue."""
        message = delivery.message
        match message:
            case EnsureDesktop():
                await self._ensure(message)
            case MigrateDesktop() if self._migrating is not None:
                await self._migrating.migrate(message)
            case CancelMigration() if self._migrating is not None:
                await self._migrating.cancel(message)
            case _:
                raise Invalid(
                    "message.unexpected", "{name} is nothing for an agent.", name=message.name
                )

    async def _ensure(self, message: EnsureDesktop) -> None:
        if message.agent_id not in {None, self._agent_id}:
            # It waited while this node was thought dead: the desktop may run elsewhere by now.
            metrics.ENSURES.labels("for-another-run").inc()
            logger.warning(
                "desktop.command-for-another-run",
                id=str(message.desktop_id),
                generation=message.generation,
                meant=str(message.agent_id),
            )
            return
        await self._reconciler.ensure(message)

    async def question(self, query: Query) -> Body:
        """From this node's queue of questions."""
        match query:
            case OpenDisplay():
                return await self._open(query)
            case CloseDisplay(desktop_id=desktop_id, boot_id=boot_id):
                await self._driver.close_display(desktop_id, boot_id)
                return Done()
            case RebootDesktop(desktop_id=desktop_id, force=force):
                await self._driver.reboot(desktop_id, force=force)
                return Done()
            case _:
                raise Invalid(
                    "message.unexpected", "{name} is nothing for an agent.", name=query.name
                )

    async def _open(self, query: OpenDisplay) -> DisplayTicket:
        try:
            access = await self._driver.open_display(query.desktop_id, query.boot_id, query.valid_s)
        except RoostError as error:
            metrics.DISPLAY_OPENS.labels(error.code).inc()
            raise
        metrics.DISPLAY_OPENS.labels("opened").inc()
        secure = access.spice.tls_port is not None
        return DisplayTicket.model_validate(
            {
                "boot_id": query.boot_id,
                "spice": access.spice,
                "password": access.password,
                "valid_s": query.valid_s,
                "ca": self._trust.ca if secure else "",
                "host_subject": self._trust.host_subject if secure else "",
            }
        )
