"""Which copy decides, and since when."""

from __future__ import annotations

from typing import Final

from roost_common.clock import Clock
from roost_common.lease import Lease

LEASE: Final = "detector"
"""Who holds it judges, grants, fences and follows incidents."""


class Leading:
    """This copy's leadership as seen from here."""

    def __init__(self, lease: Lease, clock: Clock) -> None:
        self._lease = lease
        self._clock = clock
        self._term = 0
        self._since = float("-inf")

    @property
    def held(self) -> bool:
        """Whether this copy may act now."""
        return self._lease.held

    @property
    def since(self) -> float | None:
        """Since when nobody else has acted, in monotonic seconds and never too early; None while
        this copy may not act.

        A term is this copy's from when it is first looked at here, so look at it often.
        """
        if not self._lease.held:
            return None
        if self._lease.term != self._term:
            self._term, self._since = self._lease.term, self._clock.monotonic()
        return self._since
