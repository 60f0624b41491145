"""A clock that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands still until it is moved; the monotonic side moves with it."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._now = start

    def now(self) -> datetime:
        """The set time."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the fake began."""
        return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        """Let time pass; it cannot go back."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += timedelta(seconds=seconds)
