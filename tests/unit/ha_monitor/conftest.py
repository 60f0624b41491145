"""Beats as a node sends them, and a host watched through a whole story."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from roost_common.contracts.host import Health, HostBeat
from roost_ha_monitor.detector import Policy, State, Transition, step

EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)

AGENT = UUID(int=1)

BeatAt = Callable[..., HostBeat]


@pytest.fixture(scope="session")
def beat_at() -> BeatAt:
    """Makes a beat sent ``t`` seconds after the test's epoch by the node's clock."""

    def make(t: float, sequence: int, *, agent_id: UUID = AGENT, libvirt: bool = True) -> HostBeat:
        return HostBeat(
            node="kvm1",
            agent_id=agent_id,
            sequence=sequence,
            sent_at=EPOCH + timedelta(seconds=t),
            libvirt=libvirt,
        )

    return make


class Watched:
    """One host's state and everything that was said of it."""

    def __init__(self, policy: Policy, beat_at: BeatAt) -> None:
        self.policy = policy
        self.state = State()
        self.said: list[Transition] = []
        self.observing_since: float | None = 0.0
        self.sequence = 0
        self.agent_id = uuid4()
        self._beat_at = beat_at

    def step(self, now: float, beat: HostBeat | None = None) -> None:
        """One step of the detector."""
        self.state, made = step(self.state, beat, now, self.policy, self.observing_since)
        self.said += made

    def beat(self, now: float, *, sent: float | None = None, libvirt: bool = True) -> HostBeat:
        """The agent's next beat, arriving at ``now``."""
        self.sequence += 1
        beat = self._beat_at(
            now if sent is None else sent, self.sequence, agent_id=self.agent_id, libvirt=libvirt
        )
        self.step(now, beat)
        return beat

    def beats(self, start: float, end: float) -> None:
        """One beat a second from ``start`` to ``end``, both included."""
        t = start
        while t <= end:
            self.beat(t)
            t += 1.0

    def silence(self, start: float, end: float, tick: float = 0.25) -> None:
        """Nothing but the detector's own ticks."""
        t = start
        while t <= end:
            self.step(t)
            t += tick

    @property
    def healths(self) -> list[Health]:
        """What was said, in order."""
        return [change.health for change in self.said]


@pytest.fixture
def watched(beat_at: BeatAt) -> Watched:
    """A host that nobody has heard of."""
    return Watched(Policy(), beat_at)


@pytest.fixture(scope="session")
def new_watched(beat_at: BeatAt) -> Callable[[], Watched]:
    """Makes such hosts, for tests that need many."""
    return lambda: Watched(Policy(), beat_at)
