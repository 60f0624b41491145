"""Tries the second path while hosts live, so that it can be relied on when they fall silent.

A firewall that drops the probes, or a directory that is mounted elsewhere, looks like a dead host
from here. That is only to be found out while the host beats.
"""

from __future__ import annotations

import asyncio
from typing import Final

from roost_common.clock import Clock
from roost_common.contracts.alert import Severity
from roost_common.contracts.host import Health
from roost_common.loops import Loop
from roost_common.outbox import UnitOfWork
from roost_ha_monitor import alerting
from roost_ha_monitor.alerts import NO_SECOND_PATH, Wanted
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.granting import Granting
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.repository import Alerts, Hosts
from roost_ha_monitor.witness import Witness

TRY_S: Final = 60.0
MISSES: Final = 2
"""Failures in a row until somebody is told: one may be a lost packet or a slow storage."""


class SecondPath:
    """Keeps the alert of every host that beats and is not seen on the second path."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        leading: Leading,
        ears: Ears,
        clock: Clock,
        *,
        witness: Witness,
        granting: Granting,
        every_s: float = TRY_S,
    ) -> None:
        self._unit = unit_of_work
        self._leading = leading
        self._ears = ears
        self._witness = witness
        self._granting = granting
        self._clock = clock
        self._every_s = every_s
        self._misses: dict[str, int] = {}

    @property
    def loops(self) -> list[Loop]:
        """What is to run."""
        return [Loop("second-path", self.try_all, self._every_s)]

    async def try_all(self) -> None:
        """Try it once for every host that beats; of the others nothing new is known.

        A site that has given its second path up has no alert about it.
        """
        if not self._leading.held:
            self._misses = {}
            return
        wanted = await self._missed() if self._witness.there else {}
        if not self._leading.held:
            return
        async with self._unit() as transaction:
            await alerting.keep(transaction, NO_SECOND_PATH, wanted, self._clock.now())

    async def _missed(self) -> dict[str, Wanted]:
        async with self._unit() as transaction:
            rows = await Hosts(transaction.session).all_known()
            known = await Alerts(transaction.session).open_keys()
        nodes = [
            row.node for row in rows if row.health not in (None, Health.OFF) and not row.maintained
        ]
        shown = await asyncio.gather(*(self._try(node) for node in nodes))
        for node, seen in zip(nodes, shown, strict=True):
            if seen is not None:
                self._misses[node] = 0 if seen else self._misses.get(node, 0) + 1
        told = {about for alert, about in known if alert == NO_SECOND_PATH}
        return {
            node: Wanted(
                NO_SECOND_PATH,
                node,
                Severity.WARNING,
                f"Host {node} beats, but neither its ports nor its file on the shared storage can "
                "be seen from here: were it silent on the bus, nobody could tell whether it lives.",
            )
            for node in nodes
            # What was told stays so until it is seen: of who cannot be asked nothing new is known.
            if (misses := self._misses.get(node)) != 0 and (node in told or (misses or 0) >= MISSES)
        }

    async def _try(self, node: str) -> bool | None:
        """Whether it is seen; None where it does not beat, before or after."""
        pulse = self._ears.pulses.get(node)
        if pulse is None or not self._ears.beats(node):
            return None
        seen = await self._witness.shows(node, self._granting.address(node), pulse.agent_id)
        return seen if seen or self._ears.beats(node) else None
