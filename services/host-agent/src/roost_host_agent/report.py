"""The report: every few seconds the node and everything on it, which makes good what events
missed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Final

from roost_common.clock import Clock
from roost_common.contracts.desktop import DomainState
from roost_common.contracts.host import HostReport
from roost_common.errors import RoostError, Unavailable
from roost_host_agent import metrics
from roost_host_agent.hypervisor.driver import DomainView, Hypervisor, NodeView
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer, Publisher

LOOK_DEADLINE_S: Final = 10.0
"""A libvirtd that takes longer to list its domains counts as not answering."""
AWAY_RETRY_S: Final = 1.0
FIRST_RETRY_S: Final = 0.2
"""Nobody sends a command to a new run of the agent before its first report."""
GUESTS_EVERY_S: Final = 60.0
"""Reports say again what the guests told this often; events say it when it changes."""
PUBLISH_DEADLINE_S: Final = 5.0

_Look = tuple[NodeView, tuple[DomainView, ...]]


class Reporter:
    """Looks at the node, hands what it saw to ``sweep``, and publishes `HostReport`.

    ``sweep`` false: of the desktops that were seen nothing may be said yet.
    """

    def __init__(
        self,
        node: Node,
        driver: Hypervisor,
        observer: Observer,
        publisher: Publisher,
        clock: Clock,
        *,
        interval_s: float,
        sweep: Callable[[tuple[DomainView, ...]], bool],
    ) -> None:
        self._node = node
        self._driver = driver
        self._observer = observer
        self._publisher = publisher
        self._clock = clock
        self._interval_s = interval_s
        self._sweep = sweep
        self._looking: asyncio.Task[_Look] | None = None
        self._known: NodeView | None = None
        self._guests_at: float | None = None
        self._reported = False
        self.libvirt_answers = False
        """Whether the last look succeeded."""

    async def run(self) -> None:
        """Ends only by cancellation."""
        try:
            while True:
                await self.step()
                if not self._reported:
                    await asyncio.sleep(FIRST_RETRY_S)
                else:
                    await asyncio.sleep(self._interval_s if self.libvirt_answers else AWAY_RETRY_S)
        finally:
            if self._looking is not None:
                self._looking.cancel()

    async def step(self) -> None:
        """One look and one report; one that says it is not complete, where there was no look or
        nothing may be said of it."""
        at = self._observer.stamp()
        look = await self._look()
        self.libvirt_answers = look is not None
        metrics.LIBVIRT_UP.set(self.libvirt_answers)
        views: tuple[DomainView, ...] = ()
        if look is not None:
            self._known, views = look
            _count(views)
            if not self._sweep(views):
                look = None
        if self._known is None:
            # What the node can do has never been seen: there is nothing to say yet but the beat.
            return
        guests = look is not None and self._guests_due()
        report = HostReport(
            node=self._node.name,
            agent_id=self._node.agent_id,
            address=self._node.address,
            sent_at=at,
            capabilities=self._known.capabilities,
            stats=self._known.stats,
            domains=self._observer.report(views, at, guests=guests) if look is not None else (),
            complete=look is not None,
        )
        try:
            await self._publisher.publish(report, deadline_s=PUBLISH_DEADLINE_S)
        except Unavailable:
            # The next report says it all; the bus logs that it is away.
            return
        self._reported = True
        if guests:
            self._guests_at = self._clock.monotonic()

    async def _look(self) -> _Look | None:
        """None when libvirtd does not answer; a look that takes too long is waited for next time,
        so that no more than one of them holds up a thread."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._ask())
        done, _ = await asyncio.wait({self._looking}, timeout=LOOK_DEADLINE_S)
        if not done:
            return None
        task, self._looking = self._looking, None
        try:
            return task.result()
        except RoostError as error:
            if not error.retryable:
                raise
            return None

    async def _ask(self) -> _Look:
        began = perf_counter()
        look = (await self._driver.node(), await self._driver.domains())
        metrics.REPORT_SECONDS.observe(perf_counter() - began)
        return look

    def _guests_due(self) -> bool:
        at = self._guests_at
        return at is None or self._clock.monotonic() - at >= GUESTS_EVERY_S


def _count(views: tuple[DomainView, ...]) -> None:
    states = Counter(view.state for view in views)
    for state in DomainState:
        metrics.DOMAINS.labels(state.value).set(states[state])
    metrics.CLIENTS.set(sum(len(view.clients) for view in views))
    used = [view.stats for view in views if view.stats is not None]
    metrics.MEMORY_USED.set(sum(stats.memory_used_mib for stats in used))
    for stats in used:
        metrics.CPU_PERCENT.observe(stats.cpu_percent)
