"""How a notice reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from roost_common.contracts.alert import AlertCleared, AlertRaised, Severity
from roost_ha_monitor.notifications.mail import render
from roost_ha_monitor.notifications.notice import About, Notice
from roost_ha_monitor.notifications.targets import TARGET, EmailTarget

BEGAN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
ENDED = datetime(2026, 1, 5, 8, 5, 7, tzinfo=UTC)
RAISED = Notice(
    About.RAISED,
    0,
    UUID(int=7),
    "host.down",
    "node-a",
    Severity.ALERT,
    "Host node-a is down.",
    since=BEGAN,
    at=BEGAN,
)
CLEARED = replace(RAISED, about=About.CLEARED, message="It is over.", at=ENDED)
REMINDER = replace(RAISED, about=About.REMINDER, number=2, at=ENDED)
TARGET_ = TARGET.validate_python(
    {
        "kind": "email",
        "host": "mail.example.org",
        "sender": "roost@example.org",
        "recipients": ["ops@example.org", "boss@example.org"],
    }
)


def test_the_subject_says_what_and_where() -> None:
    assert RAISED.subject == "[Roost] host.down node-a"
    assert CLEARED.subject == "[Roost] host.down node-a is over"
    assert REMINDER.subject == "[Roost] host.down node-a (reminder 2)"


def test_a_name_can_add_no_header() -> None:
    odd = replace(RAISED, object="node-a\r\nBcc: everybody@example.org")
    assert isinstance(TARGET_, EmailTarget)
    message = render(TARGET_, odd, "docs")
    assert message["Bcc"] is None
    assert "\n" not in odd.subject
    assert "\r" not in odd.subject


def test_the_text_has_the_message_the_times_and_the_runbook() -> None:
    text = CLEARED.text("https://wiki.example.org/roost/")
    assert text.startswith("It is over.\n")
    assert "Since:     2026-01-05 08:00:00 UTC\n" in text
    assert "Over:      2026-01-05 08:05:07 UTC\n" in text
    assert "Runbook:   https://wiki.example.org/roost/host.down.md\n" in text
    assert "Over:" not in RAISED.text("docs")


def test_a_mail_of_the_end_answers_that_of_the_beginning() -> None:
    assert isinstance(TARGET_, EmailTarget)
    began, ended, again = (render(TARGET_, each, "docs") for each in (RAISED, CLEARED, REMINDER))
    assert began["Message-ID"] == f"<{RAISED.id}@example.org>"
    assert began["In-Reply-To"] is None
    assert ended["In-Reply-To"] == again["In-Reply-To"] == began["Message-ID"]
    assert len({mail["Message-ID"] for mail in (began, ended, again)}) == 3
    assert began["To"] == "ops@example.org, boss@example.org"
    assert began["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("notice", "contract"),
    [(RAISED, AlertRaised), (REMINDER, AlertRaised), (CLEARED, AlertCleared)],
)
def test_a_cloud_event_is_that_of_the_bus(
    notice: Notice, contract: type[AlertRaised | AlertCleared]
) -> None:
    event = notice.cloud_event()
    assert (event["specversion"], event["type"]) == ("1.0", contract.name)
    assert (event["source"], event["subject"]) == ("/roost/ha-monitor", "node-a")
    fact = contract.model_validate(event["data"])
    assert (fact.alert_id, fact.message) == (notice.alert_id, notice.message)
    assert fact.at == (ENDED if notice is CLEARED else BEGAN)
    assert event.get("reminder") == (2 if notice is REMINDER else None)


def test_every_notice_has_one_id_however_often_it_is_told() -> None:
    told = [RAISED, CLEARED, REMINDER, replace(REMINDER, number=3)]
    assert len({notice.cloud_event()["id"] for notice in told}) == 4
    assert replace(RAISED).id == RAISED.id
