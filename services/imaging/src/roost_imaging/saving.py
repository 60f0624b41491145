"""What overlays save compared with full copies. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class BaseUse:
    """One template version: bytes on disk of the base, and of all its overlays together."""

    base_bytes: int
    overlays: int
    overlay_bytes: int


def saved_bytes(use: BaseUse) -> int:
    """``max(0, n * used(base) - (used(base) + sum of used(overlays)))``.

    n desktops as full copies would take the base n times; as overlays they take it once and what
    each has written since. One desktop saves nothing, and nobody saves less than nothing.
    """
    copies = use.overlays * use.base_bytes
    return max(0, copies - (use.base_bytes + use.overlay_bytes))


def total_saved_bytes(uses: Iterable[BaseUse]) -> int:
    """The saving of several versions together."""
    return sum(saved_bytes(use) for use in uses)
