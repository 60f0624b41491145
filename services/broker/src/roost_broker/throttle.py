"""How fast passwords may be guessed. Pure: a bucket that fills with failures and drains evenly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Limit:
    """So many failures at once, and as many again in each window."""

    failures: int
    window_s: float

    def level(self, stored: float, at: datetime, now: datetime) -> float:
        """What is left at ``now`` of a level stored at ``at``."""
        drained = max(0.0, (now - at).total_seconds()) * self.failures / self.window_s
        return max(0.0, stored - drained)

    def wait_s(self, level: float) -> float:
        """Seconds until one more attempt is allowed; 0 when it is now."""
        over = level - (self.failures - 1)
        return 0.0 if over <= 0 else over * self.window_s / self.failures
