"""Keeps this node's beat file, and the newest look at the others'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from roost_common import log
from roost_common.clock import Clock
from roost_host_agent import metrics
from roost_host_agent.beat_file import BeatDirectory, BeatFile, Sightings
from roost_host_agent.lease import GRANT_FRESH_S, Lease, Peers
from roost_host_agent.node import Node

logger = log.get_logger(__name__)

WITNESS_FRESH_S: Final = 5.0
"""A directory that did not answer for longer is not claimed to be shared any more: ha-monitor
then stops counting on leases, because the others cannot see this node's grant."""


class PeerWatch:
    """``directory`` None: this node shares none, and sees nobody."""

    def __init__(
        self,
        node: Node,
        lease: Lease,
        directory: BeatDirectory | None,
        clock: Clock,
        *,
        boot_time: Callable[[], float],
        interval_s: float = 1.0,
    ) -> None:
        self._node = node
        self._lease = lease
        self._directory = directory
        self._clock = clock
        self._boot_time = boot_time
        self._interval_s = interval_s
        self._sightings = Sightings()
        self._counter = 0
        self._failing = False
        self._looked: Peers | None = None
        self._granted_before_until = float("-inf")
        self.sequence = 0
        """Of the last beat; for people who read the file."""
        self.tried = asyncio.Event()
        """Set after the first look, whatever came of it. Beats wait for it: a first one that knows
        no directory would look as if this node had lost it."""
        if directory is None:
            self.tried.set()
        self.peers: Peers | None = None
        """The newest look; None while the directory cannot be read."""

    def witness(self, now: float) -> UUID | None:
        """Identity of the directory, while it can be written and read."""
        looked = self._looked
        return looked.witness if looked and now - looked.at < WITNESS_FRESH_S else None

    async def run(self) -> None:
        """Ends only by cancellation."""
        if self._directory is None:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.step()
            self.tried.set()
            await asyncio.sleep(max(0.0, began + self._interval_s - loop.time()))

    async def step(self) -> None:
        """Write once, look once."""
        directory = self._directory
        if directory is None:
            return
        at = self._boot_time()
        try:
            if self._counter == 0:
                # A run that has just started is heard as the one before was: without that, a
                # restart of an agent would look like the loss of the bus to the others.
                before = (await directory.read()).own
                if before is not None and before.granted:
                    self._granted_before_until = at + GRANT_FRESH_S
            self._counter += 1
            reading = await directory.exchange(self._own(at))
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            self.peers = None
            if not self._failing:
                logger.warning("peers.unreadable", error=str(error) or type(error).__name__)
            self._failing = True
            metrics.PEERS_READABLE.set(0)
            return
        if self._failing:
            logger.info("peers.readable", witness=str(reading.witness))
        self._failing = False
        metrics.PEERS_READABLE.set(1)
        self.peers = self._looked = self._sightings.look(reading, at)

    def _own(self, now: float) -> BeatFile:
        granted = self._lease.granted_lately(now) or now < self._granted_before_until
        return BeatFile(
            agent_id=str(self._node.agent_id),
            counter=self._counter,
            sequence=self.sequence,
            granted=granted,
            written_at=self._clock.now().isoformat(),
        )
