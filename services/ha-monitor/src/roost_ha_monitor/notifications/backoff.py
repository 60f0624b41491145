"""When to try again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Backoff:
    """Waits that double, up to a limit, and an end.

    An hour at most, because a mail server that was mended shall not be idle for half a day; a day
    in all, because what is older than that is history, and stands in the list of incidents.
    """

    first: timedelta = timedelta(seconds=10)
    longest: timedelta = timedelta(hours=1)
    give_up_after: timedelta = timedelta(hours=24)

    def wait(self, failures: int) -> timedelta:
        """How long to wait after this many failures, of which there is at least one."""
        doublings = min(failures - 1, 30)  # enough for any limit, and no overflow
        return min(self.first * (1 << doublings), self.longest)

    def next_try(self, failures: int, created_at: datetime, now: datetime) -> datetime | None:
        """When to try again, or None: it is given up."""
        at = now + self.wait(failures)
        return None if at - created_at > self.give_up_after else at
