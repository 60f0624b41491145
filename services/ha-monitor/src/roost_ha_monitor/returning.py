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
SILENT: Final = (Health.SUSPECTED, Health.DOWN)
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
    # A clock may have gone back: a beat in the future was not heard just now either.
    if not beats or abs(now - max(beats)) <= NOBODY_WATCHED:
        return []
    return [n for n, host in hosts.items() if host.health in _EXPECTED and n not in heard]


def all_silent(healths: Iterable[Health | None]) -> bool:
    """Whether every host is silent that is not off on purpose, and there are several."""
    watched = [health for health in healths if health not in (None, Health.OFF)]
    return len(watched) > 1 and all(health in SILENT for health in watched)


def given_time(before: Mapping[str, Health | None], now: Mapping[str, Health | None]) -> set[str]:
    """The hosts whose time to come back begins now, if it has begun already anew: of hosts that are
    all silent those that are down, and from when the first of them is back those that are not."""
    if all_silent(now.values()):
        return {node for node, health in now.items() if health is Health.DOWN}
    if all_silent(before.values()):
        return {node for node, health in now.items() if health in SILENT}
    return set()
