"""Which channel is told of which alert."""

from __future__ import annotations

import pytest

from roost_common.contracts.alert import Severity
from roost_ha_monitor.notifications.wanting import wants


@pytest.mark.parametrize(
    ("least", "severity", "told"),
    [
        (Severity.NORMAL, Severity.NORMAL, True),
        (Severity.WARNING, Severity.NORMAL, False),
        (Severity.ERROR, Severity.WARNING, False),
        (Severity.ERROR, Severity.ERROR, True),
        (Severity.ERROR, Severity.ALERT, True),
        (Severity.ALERT, Severity.ERROR, False),
    ],
)
def test_what_is_less_severe_is_not_told(least: Severity, severity: Severity, told: bool) -> None:
    assert wants(["*"], least, "host.down", severity) is told


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (["*"], True),
        (["host.*"], True),
        (["storage.*", "host.down"], True),
        (["storage.*"], False),
        (["host"], False),
        (["HOST.*"], False),
        ([], False),
    ],
)
def test_a_name_matches_one_of_the_patterns(patterns: list[str], told: bool) -> None:
    assert wants(patterns, Severity.NORMAL, "host.down", Severity.ALERT) is told
