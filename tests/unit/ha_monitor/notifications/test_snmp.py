"""What goes out by SNMP is what the MIB says."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

from roost_common.contracts.alert import Severity
from roost_ha_monitor.notifications.notice import About, Notice
from roost_ha_monitor.notifications.snmp import ROOST_MIB, TRAPS, date_and_time, varbinds

MIB = (Path(__file__).parents[4] / "docs" / "snmp" / "ROOST-MIB.txt").read_text()
BEGAN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
NOTICE = Notice(
    About.REMINDER,
    3,
    UUID(int=7),
    "host.down",
    "node-a",
    Severity.ERROR,
    "Host node-a is down.",
    since=BEGAN,
    at=BEGAN,
)


def numbers(parent: str) -> dict[str, int]:
    """What the MIB defines directly below ``parent``."""
    pattern = rf"^(\w+) (?:OBJECT|NOTIFICATION)-TYPE(?:(?!^\w).)*?::= {{ {parent} (\d+) }}"
    return {name: int(n) for name, n in re.findall(pattern, MIB, re.DOTALL | re.MULTILINE)}


def test_the_root_is_the_documented_one() -> None:
    assert "::= { enterprises 32473 1 }" in MIB
    assert ROOST_MIB == "1.3.6.1.4.1.32473.1"


def test_notifications_have_the_numbers_of_the_mib() -> None:
    defined = numbers("roostNotifications")
    assert defined == {"roostAlertRaised": 1, "roostAlertCleared": 2, "roostAlertTest": 3}
    of = {about: f"{ROOST_MIB}.0.{defined[name]}" for about, name in _NAMES.items()}
    assert of == TRAPS


_NAMES = {
    About.RAISED: "roostAlertRaised",
    About.REMINDER: "roostAlertRaised",
    About.CLEARED: "roostAlertCleared",
    About.TEST: "roostAlertTest",
}


def test_variables_stand_in_the_order_of_the_mib() -> None:
    lists = re.findall(r"NOTIFICATION-TYPE\s+OBJECTS {([^}]*)}", MIB)
    assert len(lists) == 3
    defined = numbers("roostObjects")
    for each in lists:
        named = [defined[name] for name in re.split(r"[,\s]+", each.strip())]
        assert named == [number for number, _ in varbinds(NOTICE)]


def test_severities_are_those_of_the_mib() -> None:
    listed = re.search(r"INTEGER {([^}]*)}", MIB)
    assert listed is not None
    defined = {name: int(n) for name, n in re.findall(r"(\w+)\((\d)\)", listed.group(1))}
    sent = {s.value: dict(varbinds(replace(NOTICE, severity=s)))[4] for s in Severity}
    assert sent == defined


def test_texts_are_cut_between_characters() -> None:
    message = dict(varbinds(replace(NOTICE, message="é" * 200)))[5]
    assert isinstance(message, bytes)
    assert len(message) == 254
    assert message.decode() == "é" * 127


def test_times_are_in_utc() -> None:
    there = datetime(2026, 1, 5, 9, 30, 2, 700_000, tzinfo=timezone(timedelta(hours=1)))
    assert date_and_time(there) == bytes([7, 234, 1, 5, 8, 30, 2, 7]) + b"+\0\0"
