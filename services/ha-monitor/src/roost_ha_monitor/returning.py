"""Who is given time to come back when the site starts, or all of it was silent. Pure.

After a power cut, or a weekend, managers are up before the hosts: those still boot. Whoever had
watched would know that they were away, but nobody had. Fencing them would switch off what is just
starting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from roost_common.contracts.host import Health

NOBODY_WATCHED: Final = timedelta(seconds=60)
"""A takeover or a restart of ha-monitor takes seconds; beats are written down every ten."""
_EXPECTED: Final = (Health.UP, Health.SUSPECTED, Health.RECOVERED)


@dataclass(frozen=True)
class Last:
    """What is written of a host."""

    health: Health | None
    beat_at: datetime | None


def expected(hosts: Mapping[str, Last], heard: Collection[str], now: datetime) -> list[str]:
    """The hosts that were there before and have not been heard since this process began, where
    nobody had heard any host for so long that all of the site must have been away."""
    beats = [host.beat_at for host in hosts.values() if host.beat_at is not None]
    if not beats or now - max(beats) <= NOBODY_WATCHED:
        return []
    return [n for n, host in hosts.items() if host.health in _EXPECTED and n not in heard]


def all_down(healths: Iterable[Health | None]) -> bool:
    """Whether every host is down that is not off on purpose, and there are several."""
    watched = [health for health in healths if health not in (None, Health.OFF)]
    return len(watched) > 1 and all(health is Health.DOWN for health in watched)
