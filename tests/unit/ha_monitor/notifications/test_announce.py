"""Alerts go through one function."""

from __future__ import annotations

import re
from pathlib import Path

import roost_ha_monitor

SOURCES = Path(roost_ha_monitor.__file__).parent


def test_no_alert_is_told_to_the_bus_alone() -> None:
    past_announce = re.compile(r"emit\([^)\n]*\.(raised|clear)\(")
    found = [
        f"{path.relative_to(SOURCES)}: {match.group()}"
        for path in SOURCES.rglob("*.py")
        for match in past_announce.finditer(path.read_text())
    ]
    assert found == []
