"""What this copy hears: every node's pulse, and its own. Kept by every copy, so that a standby
takes over knowing who lives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from roost_common import log, topology
from roost_common.bus import Bus
from roost_common.clock import Clock
from roost_common.contracts.base import Delivery
from roost_common.contracts.host import HostBeat
from roost_common.contracts.monitor import MonitorBeat
from roost_common.errors import Unavailable
from roost_common.topology import QueueSpec
from roost_ha_monitor.detector import Policy, Pulse, hear
from roost_ha_monitor.hearing import SELF_BEAT_S, Hearing

logger = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """The beats of several hosts, taken together."""

    since: float = float("-inf")
    """Of the first after the last break."""
    last: float = float("-inf")

    def on(self, at: float, silent_after_s: float) -> Heard:
        """With one more beat."""
        since = at if at - self.last > silent_after_s else self.since
        return Heard(since, max(self.last, at))


class Ears:
    """Pulses by node; times are this process's monotonic seconds."""

    def __init__(
        self, copy_id: UUID, clock: Clock, *, silent_after_s: float = Policy.suspect_after_s
    ) -> None:
        """``silent_after_s``: how long after its last beat a host counts as silent."""
        self.pulses: dict[str, Pulse] = {}
        self.silent_after_s = silent_after_s
        self._copy_id = copy_id
        self._clock = clock
        self._hearing = Hearing()
        self._heard: dict[UUID | None, Heard] = {}

    @property
    def queue(self) -> QueueSpec:
        """This copy's own: every copy hears every beat."""
        return topology.samples_queue("ha-monitor", HostBeat, MonitorBeat, own=self._copy_id.hex)

    async def handle(self, delivery: Delivery) -> None:
        """One beat. Touches nothing but memory: beats are never slower than the bus."""
        now = self._clock.monotonic()
        message = delivery.message
        if isinstance(message, HostBeat):
            pulse = hear(self.pulses.get(message.node), message, now)
            self.pulses[message.node] = pulse
            known = self._heard.get(pulse.witness, Heard())
            # When it came: beats that were held up and come all at once hide no break.
            self._heard[pulse.witness] = known.on(pulse.arrived_at, self.silent_after_s)
        elif isinstance(message, MonitorBeat) and message.copy_id == self._copy_id:
            self._hearing = self._hearing.heard(now)

    def observing_since(self, now: float) -> float | None:
        """See `Hearing.observing_since`."""
        return self._hearing.observing_since(now)

    def beats(self, node: str) -> bool:
        """Whether a node's last beat is so young that it is not silent."""
        pulse = self.pulses.get(node)
        return pulse is not None and self._clock.monotonic() - pulse.heard_at < self.silent_after_s

    def hosts_heard_since(self, now: float, witness: UUID | None) -> float | None:
        """Since when this copy has heard the bus, and some host on it that looks into this shared
        directory, without a break; None while it does not.

        Hosts that see in a directory that all of them are silent hold on to their leases together,
        and for a while after one of them is granted again: nobody's lease may be counted on before.
        """
        observing_since = self._hearing.observing_since(now)
        heard = self._heard.get(witness, Heard())
        if observing_since is None or now - heard.last > self.silent_after_s:
            return None
        return max(observing_since, heard.since)

    def last_beat_at(self, node: str) -> datetime | None:
        """When this copy knows the node to have lived, as wall-clock time."""
        pulse = self.pulses.get(node)
        if pulse is None:
            return None
        ago = self._clock.monotonic() - pulse.heard_at
        return self._clock.now() - timedelta(seconds=ago)


class SelfBeat:
    """Sends this copy's own beat for ever."""

    def __init__(self, bus: Bus, copy_id: UUID) -> None:
        self._bus = bus
        self._copy_id = copy_id
        self._sequence = 0

    async def run(self) -> None:
        """Ends only by cancellation. A beat the bus does not take is not sent again."""
        while True:
            self._sequence += 1
            beat = MonitorBeat(copy_id=self._copy_id, sequence=self._sequence)
            try:
                await self._bus.publish(beat, deadline_s=SELF_BEAT_S)
            except Unavailable:
                # Not heard, so this copy is deaf: `observing_since` says so, and the bus logs it.
                logger.debug("monitor.beat-lost")
            await asyncio.sleep(SELF_BEAT_S)
