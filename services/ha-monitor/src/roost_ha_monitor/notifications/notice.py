"""What is told about an alert, and how it reads. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid5

from roost_common.contracts.alert import Severity
from roost_common.errors import Unavailable

SOURCE: Final = "/roost/ha-monitor"
_SUBJECT_MAX: Final = 200
"""Characters; a mail program shows fewer still."""


class About(StrEnum):
    """What happened to the alert."""

    RAISED = "raised"
    REMINDER = "reminder"
    CLEARED = "cleared"
    TEST = "test"


_TYPES: Final = {
    About.RAISED: "alert.raised.v1",
    About.REMINDER: "alert.raised.v1",
    About.CLEARED: "alert.cleared.v1",
    About.TEST: "alert.test.v1",
}


class Undelivered(Unavailable):
    """A channel's other end did not take a notice.

    ``maybe`` means that it may have arrived all the same: the connection broke, or no answer came,
    after it had been sent. The text never holds a secret.
    """

    def __init__(self, why: str, *, maybe: bool = False) -> None:
        super().__init__("notification.undelivered", "{why}", why=why)
        self.maybe = maybe


@dataclass(frozen=True)
class Notice:
    """One thing to tell; the same each time it is tried."""

    about: About
    number: int
    """0, but for reminders, which count from 1."""
    alert_id: UUID
    alert: str
    object: str
    severity: Severity
    message: str
    since: datetime
    """When the alert was raised."""
    at: datetime
    """When what is told happened."""

    @property
    def id(self) -> UUID:
        """The same for every channel and every try, so that receivers can tell repetitions."""
        return uuid5(self.alert_id, f"{self.about}/{self.number}")

    @property
    def subject(self) -> str:
        """A line, for mail."""
        ends = {About.CLEARED: " is over", About.REMINDER: f" (reminder {self.number})"}
        line = f"[Roost] {self.alert} {self.object}{ends.get(self.about, '')}"
        return " ".join(line.split())[:_SUBJECT_MAX]

    def text(self, runbooks: str) -> str:
        """A page, for mail; ``runbooks`` is where these can be read."""
        lines = [
            self.message,
            "",
            f"Alert:     {self.alert}",
            f"About:     {self.object}",
            f"Severity:  {self.severity}",
            f"Since:     {_readable(self.since)}",
        ]
        if self.about is About.CLEARED:
            lines.append(f"Over:      {_readable(self.at)}")
        if self.about is not About.TEST:
            lines.append(f"Runbook:   {runbooks.rstrip('/')}/{self.alert}.md")
        return "\n".join([*lines, ""])

    def cloud_event(self) -> dict[str, Any]:
        """CloudEvents 1.0, JSON format, structured mode; the data is that of the bus's event."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": SOURCE,
            "type": _TYPES[self.about],
            "time": self.at.isoformat(),
            "subject": self.object,
            "datacontenttype": "application/json",
            "data": {
                "alert_id": str(self.alert_id),
                "alert": self.alert,
                "object": self.object,
                "severity": self.severity.value,
                "message": self.message,
                "at": (self.at if self.about is About.CLEARED else self.since).isoformat(),
            },
        }
        if self.about is About.REMINDER:
            event["reminder"] = self.number
        return event


def _readable(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
