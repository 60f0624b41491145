"""Stopping desktops because they must not run here any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from roost_common import log
from roost_common.errors import RoostError, Unavailable
from roost_host_agent.hypervisor.driver import DomainView, Hypervisor
from roost_host_agent.reconciler import Reconciler

logger = log.get_logger(__name__)

DEADLINE_S: Final = 5.0
"""A hypervisor that takes longer is asked again; the guard does not wait for it."""


class Stopping:
    """Through the driver, in the order of the reconciler: never two things at once for one."""

    def __init__(
        self, driver: Hypervisor, reconciler: Reconciler, *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._driver = driver
        self._reconciler = reconciler
        self._deadline_s = deadline_s

    async def views(self) -> tuple[DomainView, ...]:
        """All that is here; raises `Unavailable` or `Outage` when it cannot be known in time."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._driver.domains()
        except TimeoutError:
            raise Unavailable(
                "host.libvirt-busy", "libvirt has not answered in {s} s.", s=self._deadline_s
            ) from None

    async def stop(self, desktops: Iterable[UUID]) -> None:
        """Cut the power of these, all at once; who asks looks afterwards what came of it."""
        await asyncio.gather(*(self._stop(desktop_id) for desktop_id in desktops))

    async def _stop(self, desktop_id: UUID) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._reconciler.cut_power(desktop_id)
        except (RoostError, TimeoutError) as error:
            logger.warning("desktop.stop-failed", id=str(desktop_id), error=str(error))
