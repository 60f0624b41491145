"""Goes through a host's fence devices once, as `plan` says, and makes sure of what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from roost_common.clock import Clock
from roost_ha_monitor import metrics
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.fencing.fence_agents import Answer, Device, FenceAgents
from roost_ha_monitor.fencing.plan import (
    AskStatus,
    NothingWorked,
    Proven,
    Said,
    Stopped,
    SwitchOff,
    Try,
    next_step,
)
from roost_ha_monitor.witness import Witness

ACCEPT_S: Final = 0.5
"""How long a machine in the same site may take to accept a connection, if it lives."""
POLL_S: Final = 0.1

Ending = Proven | NothingWorked | Stopped


class Journal:
    """What a round tells while it goes; the default writes nothing."""

    async def unwanted(self) -> bool:
        """Whether the host need not, or must not, be switched off any more."""
        return False

    async def begin(self, device: Device) -> None:
        """This device is told to switch off next."""

    async def end(self, device: Device, outcome: str) -> None:
        """It did not do."""


class Rounds:
    """Rounds through fence devices."""

    def __init__(
        self,
        agents: FenceAgents,
        witness: Witness,
        ears: Ears,
        clock: Clock,
        *,
        address: Callable[[str], str],
    ) -> None:
        self._agents = agents
        self._witness = witness
        self._ears = ears
        self._clock = clock
        self._address = address

    async def off(self, devices: Sequence[Device], journal: Journal) -> Ending:
        """Switch a host off and make sure of it; `Proven` is not written down yet."""
        tries: list[Try] = []
        while True:
            step = next_step(len(devices), tries, stop=await journal.unwanted())
            match step:
                case SwitchOff(position):
                    device = devices[position]
                    await journal.begin(device)
                    tries.append(await self._told(device, journal))
                case AskStatus(position):
                    tries[-1] = await self._asked(devices[position], tries[-1], journal)
                case _:
                    return step

    async def on(self, devices: Sequence[Device]) -> str:
        """Switch a host on, through the first device that can; empty, or why none could."""
        why = "It has no fence device."
        for device in devices:
            answer = await self._agents.on(device)
            if answer.said is Said.DONE:
                answer = await self._agents.status(device)
                if answer.said is Said.ON:
                    return ""
            why = f"{device.agent}: {_words(answer)}."
        return why

    async def _told(self, device: Device, journal: Journal) -> Try:
        answer = await self._agents.off(device)
        if answer.said is not Said.DONE:
            await self._left(device, f"It did not switch off: {_words(answer)}.", journal)
        return Try(device.position, answer.said)

    async def _asked(self, device: Device, told: Try, journal: Journal) -> Try:
        answer = await self._agents.status(device)
        lives = await self._lives(device.node) if answer.said is Said.OFF else ""
        if answer.said is Said.ON:
            await self._left(
                device, "It said that it switched off, and then that it is on.", journal
            )
        elif answer.said is not Said.OFF:
            why = f"It said that it switched off, and cannot tell whether it is: {_words(answer)}."
            await self._left(device, why, journal)
        elif lives:
            await self._left(device, f"It says that it is off, but {lives}.", journal)
        return replace(told, status=answer.said, lives=lives)

    async def _left(self, device: Device, outcome: str, journal: Journal) -> None:
        metrics.FENCINGS.labels("failed").inc()
        await journal.end(device, outcome)

    async def _lives(self, node: str) -> str:
        """What of the host is heard although its device says that it is off, in words.

        Beats that were on their way are waited for: a host that beat just now is silent only
        after a while.
        """
        gives_up_at = self._clock.monotonic() + 2 * self._ears.silent_after_s
        while self._ears.beats(node):
            if self._clock.monotonic() >= gives_up_at:
                return "it beats"
            await asyncio.sleep(POLL_S)
        return await self._witness.accepts(self._address(node), ACCEPT_S)


def _words(answer: Answer) -> str:
    return answer.detail or f"it says {answer.said.value}"
