"""Grants of the nodes' own leases, every second, to every node whose beats are heard.

What the rows say of a node's lease is changed *before* the grants that it speaks of are sent, in
both directions: `lease_watch` counts on a lease only where the row says armed, and by then no
unarmed grant has gone out since; and a row says unarmed before the first unarmed grant goes. The
row also learns of a new run of the agent before that run is granted anything.

A beat is granted once, and only by a copy that led when it came: then of two grants the one that
was meant later names the later beat, whichever copy sent it, and the node ignores the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Protocol
from uuid import UUID

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.base import Message
from roost_common.contracts.host import LeaseGranted
from roost_common.errors import Unavailable
from roost_common.loops import Loop
from roost_common.outbox import UnitOfWork
from roost_ha_monitor import lease_policy
from roost_ha_monitor.detector import Pulse
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.lease_watch import Written, due
from roost_ha_monitor.repository import Armings, FenceDevices, Hosts, Leased

logger = log.get_logger(__name__)

GRANT_S: Final = 1.0
"""As often as nodes beat."""


class Publisher(Protocol):
    """As much of the bus as grants need."""

    async def publish(self, message: Message, *, node: str, deadline_s: float) -> None:
        """Hand it over. Raises `Unavailable`."""
        ...


class Granting:
    """Grants, and tells when a lease may be counted on."""

    def __init__(
        self,
        ears: Ears,
        leading: Leading,
        unit_of_work: UnitOfWork,
        publisher: Publisher,
        clock: Clock,
        *,
        margin_s: float,
    ) -> None:
        self._ears = ears
        self._leading = leading
        self._unit = unit_of_work
        self._publisher = publisher
        self._clock = clock
        self._margin_s = margin_s
        self._written: dict[str, Leased] = {}
        self._granted: dict[str, tuple[UUID, int]] = {}

    @property
    def loops(self) -> list[Loop]:
        """What is to run."""
        return [Loop("grants", self.grant, GRANT_S)]

    def address(self, node: str) -> str:
        """Where a node was last reached, empty where nobody knows."""
        pulse = self._ears.pulses.get(node)
        written = self._written.get(node)
        return (pulse.address if pulse else "") or (written.address if written else "")

    def lease_left_s(self, node: str, written: Written | None = None) -> float | None:
        """Seconds until a node's own lease is sure to be over, negative after it; None: it
        cannot be counted on. ``written`` is what the row says, where the caller has just read it.
        """
        if written is None:
            known = self._written.get(node)
            if known is None:
                return None
            written = Written(known.armed, known.agent_id, known.armed_sequence)
        now = self._clock.monotonic()
        pulse = self._ears.pulses.get(node)
        witness = pulse.witness if pulse is not None else None
        at = due(
            pulse,
            written,
            observing_since=self._ears.hosts_heard_since(now, witness),
            leading_since=self._leading.since,
            margin_s=self._margin_s,
        )
        return None if at is None else at - now

    async def grant(self) -> None:
        """One turn. Raises `Unavailable` while the database is away: nobody is granted then."""
        now = self._clock.monotonic()
        leading_since = self._leading.since
        if leading_since is None or self._ears.observing_since(now) is None:
            self._written = {}
            return
        async with self._unit() as transaction:
            hosts = Hosts(transaction.session)
            self._written = await hosts.leases()
            with_device = (await FenceDevices(transaction.session).counts()).keys()
            disarmed = await Armings(transaction.session).disarmed()
            beating = self._beating()
            wanted = lease_policy.armed(beating, with_device, disarmed=disarmed)
            fresh = self._fresh(beating, leading_since)
            leases = {
                node: self._leased(node, pulse, wanted=node in wanted)
                for node, pulse in fresh.items()
            }
            changed = {n: leased for n, leased in leases.items() if leased != self._written[n]}
            await hosts.lease(changed)
        for node, leased in changed.items():
            before = self._written[node]
            if before.armed != leased.armed:
                logger.info("lease.armed" if leased.armed else "lease.unarmed", node=node)
        self._written |= changed
        if self._leading.since != leading_since:
            # The database took so long that another copy leads by now, or did in between.
            return
        self._granted |= {node: (pulse.agent_id, pulse.sequence) for node, pulse in fresh.items()}
        await asyncio.gather(
            *(self._send(node, fresh[node], armed=leased.armed) for node, leased in leases.items())
        )

    def _beating(self) -> dict[str, Pulse]:
        return {
            node: pulse
            for node, pulse in self._ears.pulses.items()
            if node in self._written and self._ears.beats(node)
        }

    def _fresh(self, beating: Mapping[str, Pulse], leading_since: float) -> dict[str, Pulse]:
        """Those whose last beat has not been granted, and came while this copy led."""
        return {
            node: pulse
            for node, pulse in beating.items()
            if pulse.arrived_at > leading_since
            and self._granted.get(node) != (pulse.agent_id, pulse.sequence)
        }

    def _leased(self, node: str, pulse: Pulse, *, wanted: bool) -> Leased:
        before = self._written[node]
        stays = before.armed and before.agent_id == pulse.agent_id
        armed = wanted and lease_policy.may_arm(pulse, armed_already=stays)
        sequence = (before.armed_sequence if stays else pulse.sequence) if armed else 0
        return Leased(pulse.agent_id, pulse.address, armed, sequence)

    async def _send(self, node: str, pulse: Pulse, *, armed: bool) -> None:
        granted = LeaseGranted(
            node=node, agent_id=pulse.agent_id, sequence=pulse.sequence, armed=armed
        )
        # The next one is a second away, and the bus logs that it is gone.
        with suppress(Unavailable):
            await self._publisher.publish(granted, node=node, deadline_s=GRANT_S)
