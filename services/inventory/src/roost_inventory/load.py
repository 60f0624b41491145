"""How busy a host has been: a few samples, and their mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from roost_inventory.scheduling import Load

STALE: Final = timedelta(seconds=150)
"""Without a sample for this long nothing is known; a report's statistics are kept every 30 s."""
SAMPLES_KEPT: Final = 24
"""In the time over which is averaged; more would say nothing new."""


@dataclass(frozen=True)
class Sample:
    """What a node said of itself in one report."""

    at: datetime
    """When it was taken in here."""
    cpu_percent: float
    memory_percent: float


def with_sample(samples: Sequence[Sample], new: Sample, duration_s: float) -> tuple[Sample, ...]:
    """The samples with a newer one, without those that no mean needs any more.

    Of those from before the duration the latest is kept: it shows that all of it was measured.
    """
    kept = [one for one in samples if one.at < new.at]
    step = timedelta(seconds=duration_s / SAMPLES_KEPT)
    if len(kept) > 1 and kept[-1].at - kept[-2].at < step:
        kept.pop()
    begin = new.at - timedelta(seconds=duration_s)
    old = sum(one.at <= begin for one in kept)
    return (*kept[max(0, old - 1) :], new)


def mean(
    samples: Sequence[Sample], now: datetime, duration_s: float, since: datetime | None
) -> Load | None:
    """Mean over the duration, of what was sampled after ``since``; None without recent samples."""
    usable = [one for one in samples if since is None or one.at > since]
    if not usable or now - usable[-1].at > STALE:
        return None
    begin = now - timedelta(seconds=duration_s)
    window = [one for one in usable if one.at >= begin] or usable[-1:]
    return Load(
        cpu_percent=sum(one.cpu_percent for one in window) / len(window),
        memory_percent=sum(one.memory_percent for one in window) / len(window),
        measured_s=(now - usable[0].at).total_seconds(),
    )
