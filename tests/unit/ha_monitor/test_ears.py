"""What is heard of all hosts together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from roost_common.contracts.base import Delivery, Envelope
from roost_common.contracts.host import HostBeat
from roost_common.contracts.monitor import MonitorBeat
from roost_ha_monitor.ears import Ears

START = datetime(2026, 1, 1, tzinfo=UTC)
HERE, THERE = UUID(int=1), UUID(int=2)


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


class Site:
    """One copy's ears, and nodes that beat into a directory of their own or a common one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.copy_id = uuid4()
        self.ears = Ears(self.copy_id, self.clock, silent_after_s=2.5)
        self._agents: dict[str, UUID] = {}
        self._beats = 0

    async def second(self, **nodes: UUID | None) -> None:
        """A second passes, in which these beat and this copy hears itself."""
        for beat in await self._second(nodes):
            await self._take(beat)

    async def backlog(self, seconds: int, **nodes: UUID | None) -> None:
        """So many seconds pass, at whose end all that these said in them is heard."""
        held_up = [beat for _ in range(seconds) for beat in await self._second(nodes)]
        for beat in held_up:
            await self._take(beat)

    async def _second(self, nodes: Mapping[str, UUID | None]) -> list[HostBeat]:
        self.clock.passed += 1.0
        self._beats += 1
        await self._take(MonitorBeat(copy_id=self.copy_id, sequence=self._beats))
        return [
            HostBeat(
                node=node,
                agent_id=self._agents.setdefault(node, uuid4()),
                sequence=self._beats,
                sent_at=self.clock.now(),
                libvirt=True,
                witness=witness,
            )
            for node, witness in nodes.items()
        ]

    async def _take(self, message: HostBeat | MonitorBeat) -> None:
        envelope = Envelope(
            id=uuid4(),
            type="roost.beat.v1",
            source="/roost/test",
            time=self.clock.now(),
            correlation_id="c",
        )
        await self.ears.handle(Delivery(envelope=envelope, message=message))

    def heard_since(self, witness: UUID | None) -> float | None:
        return self.ears.hosts_heard_since(self.clock.passed, witness)


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_host_beats_until_it_is_silent(site: Site) -> None:
    await site.second(a=HERE)
    site.clock.passed += 2.4
    assert site.ears.beats("a")
    site.clock.passed += 0.2
    assert not site.ears.beats("a")
    assert not site.ears.beats("nobody")


async def test_hosts_count_together_as_long_as_one_of_them_beats(site: Site) -> None:
    for _ in range(20):
        await site.second(a=HERE, b=HERE)
    since = site.heard_since(HERE)
    for _ in range(20):
        await site.second(b=HERE)
    assert since is not None
    assert site.heard_since(HERE) == since
    for _ in range(3):
        await site.second()
    assert site.heard_since(HERE) is None
    await site.second(a=HERE)
    assert site.heard_since(HERE) == site.clock.passed


async def test_beats_that_were_held_up_and_come_at_once_hide_no_break(site: Site) -> None:
    for _ in range(20):
        await site.second(a=HERE)
    await site.backlog(20, a=HERE)
    assert site.heard_since(HERE) == site.clock.passed
    await site.second(a=HERE)
    assert site.heard_since(HERE) == site.clock.passed - 1


async def test_a_host_elsewhere_says_nothing_of_those_that_hold_on_together(site: Site) -> None:
    for _ in range(20):
        await site.second(a=HERE, b=HERE)
    for elsewhere in (None, THERE):
        for _ in range(20):
            await site.second(c=elsewhere)
        assert site.heard_since(elsewhere) is not None
        assert site.heard_since(HERE) is None
