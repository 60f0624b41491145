"""The beat: every second this agent says that it lives, however busy or slow all else is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from roost_common.clock import Clock
from roost_common.contracts.host import HostBeat
from roost_common.errors import Unavailable
from roost_host_agent.leasehold import Standing
from roost_host_agent.node import Node
from roost_host_agent.observer import Publisher


class Heartbeat:
    """Publishes `HostBeat`; ``libvirt`` tells whether libvirtd answered lately, and ``lease`` how
    the node's lease stands. It is asked before a beat is sent: a grant counts from there."""

    def __init__(
        self,
        node: Node,
        publisher: Publisher,
        clock: Clock,
        *,
        interval_s: float,
        libvirt: Callable[[], bool],
        lease: Callable[[int], Standing] = lambda _: Standing(),
    ) -> None:
        self._node = node
        self._publisher = publisher
        self._clock = clock
        self._interval_s = interval_s
        self._libvirt = libvirt
        self._lease = lease
        self._sequence = 0

    async def run(self) -> None:
        """Ends only by cancellation. A beat that the bus does not take is not made up for."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            # The bus logs that it is away; whoever listens notices the silence.
            with suppress(Unavailable):
                await self.beat()
            await asyncio.sleep(max(0.0, began + self._interval_s - loop.time()))

    async def beat(self) -> None:
        """One beat."""
        self._sequence += 1
        standing = self._lease(self._sequence)
        await self._publisher.publish(
            HostBeat(
                node=self._node.name,
                agent_id=self._node.agent_id,
                sequence=self._sequence,
                sent_at=self._clock.now(),
                libvirt=self._libvirt(),
                address=self._node.address,
                lease_s=standing.lease_s,
                lease_armed=standing.armed,
                witness=standing.witness,
            ),
            deadline_s=self._interval_s,
        )
