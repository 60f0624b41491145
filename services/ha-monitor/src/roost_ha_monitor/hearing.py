"""Whether this process hears anything at all: only then does a host's silence mean something.

Every copy sends a beat of its own over the same exchange, into the same queue, and hears itself.
While it does not, nothing may be concluded from what else it does not hear: the connection hangs,
the bus blocks all publishers (memory or disk alarm), the queue was taken away, or this process
itself stood still. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SELF_BEAT_S: Final = 0.5
"""How often a copy sends its own beat."""
DEAF_AFTER_S: Final = 1.5
"""No beat of our own for this long: deaf. With `SELF_BEAT_S` less than the time after which a
host is suspected, so that deafness is always noticed before anybody is suspected for it."""


@dataclass(frozen=True)
class Hearing:
    """When this copy last heard itself, and since when without a break (monotonic seconds)."""

    last: float = float("-inf")
    since: float = float("-inf")

    def heard(self, now: float) -> Hearing:
        """After a beat of our own arrived."""
        unbroken = now - self.last <= DEAF_AFTER_S
        return Hearing(last=now, since=self.since if unbroken else now)

    def observing_since(self, now: float) -> float | None:
        """Since when silence has counted; None while deaf."""
        return self.since if now - self.last <= DEAF_AFTER_S else None
