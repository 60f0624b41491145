"""A round through fence devices: what is made sure of after a device says off."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from roost_common.clock import SystemClock
from roost_ha_monitor.detector import Pulse
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.fencing.fence_agents import Device, FenceAgents
from roost_ha_monitor.fencing.plan import NothingWorked, Proven, Stopped
from roost_ha_monitor.fencing.round import Journal, Rounds
from roost_ha_monitor.witness import Witness

SILENT_S = 0.4


class Told(Journal):
    """Keeps what a round tells."""

    def __init__(self, unwanted_after: int = 99) -> None:
        self.begun: list[int] = []
        self.outcomes: list[str] = []
        self._left = unwanted_after

    async def unwanted(self) -> bool:
        self._left -= 1
        return self._left < 0

    async def begin(self, device: Device) -> None:
        self.begun.append(device.position)

    async def end(self, device: Device, outcome: str) -> None:
        self.outcomes.append(outcome)


class Bench:
    """Devices of one shell script each, and what is heard of their host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = SystemClock()
        self.ears = Ears(uuid4(), self.clock, silent_after_s=SILENT_S)
        agents = FenceAgents(directory, switch_timeout_s=5, status_timeout_s=5)
        self.rounds = Rounds(
            agents,
            Witness([], None, self.clock),
            self.ears,
            self.clock,
            address=lambda _: "",
        )

    def devices(self, *answers: tuple[str, str]) -> list[Device]:
        """One for each pair of shell commands: to off (and on), and to status."""
        made = []
        for position, (switch, status) in enumerate(answers):
            agent = self.directory / f"fence_{position}"
            agent.write_text(
                f"#!/bin/sh\nif grep -q action=status; then {status}; else {switch}; fi\n"
            )
            agent.chmod(0o755)
            made.append(Device("kvm1", position, agent.name, {}))
        return made

    def beat(self) -> None:
        now = self.clock.monotonic()
        self.ears.pulses["kvm1"] = Pulse(uuid4(), 1, 0.0, now, now, libvirt=True)


OFF, ON = "echo 'Status: OFF'; exit 2", "echo 'Status: ON'"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_the_next_device_is_used_where_one_fails_or_lies(bench: Bench) -> None:
    journal = Told()
    devices = bench.devices(("exit 4", ON), ("true", ON), ("true", "exit 1"), ("true", OFF))
    assert await bench.rounds.off(devices, journal) == Proven(3)
    assert journal.begun == [0, 1, 2, 3]
    assert [words.split(":")[0].split(",")[0] for words in journal.outcomes] == [
        "It did not switch off",
        "It said that it switched off",
        "It said that it switched off",
    ]


async def test_nothing_works(bench: Bench) -> None:
    assert await bench.rounds.off([], Told()) == NothingWorked()
    assert await bench.rounds.off(bench.devices(("true", ON)), Told()) == NothingWorked()


async def test_it_is_stopped_before_a_device_and_never_after_one_was_told(bench: Bench) -> None:
    never = Told(unwanted_after=0)
    assert await bench.rounds.off(bench.devices(("true", OFF)), never) == Stopped()
    assert never.begun == []
    begun = Told(unwanted_after=1)
    assert await bench.rounds.off(bench.devices(("true", OFF)), begun) == Proven(0)


async def test_beats_that_were_on_their_way_are_waited_for(bench: Bench) -> None:
    bench.beat()
    assert await bench.rounds.off(bench.devices(("true", OFF)), Told()) == Proven(0)
    pulse = bench.ears.pulses["kvm1"]
    assert bench.clock.monotonic() - pulse.heard_at >= SILENT_S


@pytest.mark.long
async def test_a_host_that_beats_on_is_not_off(bench: Bench, monkeypatch: Any) -> None:
    bench.beat()

    async def pause(_: float) -> None:
        bench.beat()

    monkeypatch.setattr("roost_ha_monitor.fencing.round.asyncio.sleep", pause)
    journal = Told()
    assert await bench.rounds.off(bench.devices(("true", OFF)), journal) == NothingWorked()
    assert journal.outcomes == ["It says that it is off, but it beats."]


async def test_a_host_is_switched_on_by_the_first_device_that_can(bench: Bench) -> None:
    assert await bench.rounds.on(bench.devices(("exit 1", OFF), ("true", ON))) == ""
    assert "fence_0" in await bench.rounds.on(bench.devices(("exit 1", OFF)))
    assert await bench.rounds.on([]) == "It has no fence device."
