"""Imaging's own metrics."""

from __future__ import annotations

import contextlib
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

STORAGE_BYTES: Final = Gauge(
    "roost_imaging_storage_bytes", "Size of a storage domain", ["storage", "kind"]
)
STORAGE_USABLE: Final = Gauge(
    "roost_imaging_storage_up", "1 while a storage domain is up, 0 full or unavailable", ["storage"]
)
OVERLAY_SECONDS: Final = Histogram(
    "roost_imaging_overlay_seconds",
    "Time to make an overlay",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
DISKS_ENSURED: Final = Counter(
    "roost_imaging_disks_total", "Answers to wishes for disks", ["outcome"]
)
JOBS_FINISHED: Final = Counter("roost_imaging_jobs_total", "Jobs that ended", ["kind", "state"])
LEFTOVERS_REMOVED: Final = Counter(
    "roost_imaging_leftovers_removed_total", "Files of dead attempts and old generations removed"
)
OVERLAYS_MISSING: Final = Counter(
    "roost_imaging_overlays_missing_total", "Overlays that were not on their storage when measured"
)


def forget_storage(name: str) -> None:
    """A domain that is gone is not shown any more."""
    with contextlib.suppress(KeyError):  # this copy may never have watched it
        for kind in ("total", "used", "free"):
            STORAGE_BYTES.remove(name, kind)
        STORAGE_USABLE.remove(name)
