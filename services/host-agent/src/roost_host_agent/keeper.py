"""Keeps the node's lease: judges it every second, and ends the desktops when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from roost_common import log
from roost_common.errors import RoostError
from roost_host_agent import metrics, processes
from roost_host_agent.lease import Verdict
from roost_host_agent.lease_file import GuardedDomain, LeaseFile
from roost_host_agent.leasehold import Leasehold
from roost_host_agent.restarted import ends
from roost_host_agent.stopping import Stopping

logger = log.get_logger(__name__)

STOP_DEADLINE_S: Final = 20.0
"""How long a run whose lease has ended tries to stop its desktops in good order. The guard has
killed them long before; the next run goes on with what is left."""
STOP_AGAIN_S: Final = 0.2


class LeaseEnded(Exception):
    """This run of the agent is over; its supervisor starts another one."""


class Keeper:
    """``inherited`` is the lease an earlier run left in force."""

    def __init__(
        self,
        leasehold: Leasehold,
        stopping: Stopping,
        *,
        inherited: LeaseFile | None,
        boot_time: Callable[[], float],
        interval_s: float = 1.0,
    ) -> None:
        self._leasehold = leasehold
        self._stopping = stopping
        self._inherited = inherited
        self._boot_time = boot_time
        self._interval_s = interval_s

    async def run(self) -> None:
        """Ends by cancellation, or with `LeaseEnded`."""
        if self._inherited is not None:
            left_s = (self._inherited.deadline or 0.0) - self._boot_time()
            logger.info(
                "lease.taken-over",
                left_s=round(left_s, 1),
                desktops=len(self._inherited.domains),
            )
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.step()
            await asyncio.sleep(max(0.0, began + self._interval_s - loop.time()))

    async def step(self) -> None:
        """Judge once. Raises `LeaseEnded` when the desktops have been stopped."""
        now = self._boot_time()
        if self._leasehold.step(now) is Verdict.HOLD:
            return
        if self._leasehold.lease.over:
            await self._end(now)
            raise LeaseEnded
        await self._settle()

    async def _end(self, now: float) -> None:
        """Stop this run's desktops."""
        desktops = self._leasehold.desktops
        logger.error("lease.ended", desktops=len(desktops.domains()))
        metrics.LEASES_ENDED.inc()
        self._leasehold.end(now)
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                while True:
                    if await self._stopped():
                        break
                    await asyncio.sleep(STOP_AGAIN_S)
        except TimeoutError:
            logger.warning("lease.desktops-left")
        else:
            logger.warning("lease.desktops-stopped")

    async def _stopped(self) -> bool:
        """Stop what must not run; whether nothing of it was left, on the list or beside it."""
        desktops = self._leasehold.desktops
        listed = {UUID(domain.uuid) for domain in desktops.domains()}
        # In the order of the reconciler, so that a start that was under way is waited for.
        await self._stopping.stop(listed)
        try:
            views = await self._stopping.views()
        except RoostError:
            return False
        left = {view.mark.desktop_id for view in views if ends(view)}
        await self._stopping.stop(left - listed)
        return not left and not _processes(desktops.domains())

    async def _settle(self) -> None:
        """Stop what an earlier run had to stop, before any grant of this run counts."""
        if self._inherited is None:
            return
        listed = {UUID(domain.uuid) for domain in self._inherited.domains}
        await self._stopping.stop(listed)
        try:
            views = await self._stopping.views()
        except RoostError:
            return
        left = [view for view in views if view.mark.desktop_id in listed and ends(view)]
        if not left and not _processes(self._inherited.domains):
            logger.warning("lease.settled", desktops=len(listed))
            self._leasehold.lease.settled()


def _processes(domains: tuple[GuardedDomain, ...]) -> bool:
    """Whether any process runs one of them, whatever the hypervisor says."""
    return any(True for _ in processes.of({domain.uuid for domain in domains}))
