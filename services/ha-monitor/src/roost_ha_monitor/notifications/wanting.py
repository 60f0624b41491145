"""Whether a channel wants an alert. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from roost_common.contracts.alert import Severity

_ORDER: Final = {severity: rank for rank, severity in enumerate(Severity)}
"""The contract lists them from the least to the most severe."""


def wants(patterns: Sequence[str], least: Severity, alert: str, severity: Severity) -> bool:
    """Whether an alert is severe enough and its name matches one of the shell patterns."""
    severe_enough = _ORDER[severity] >= _ORDER[least]
    return severe_enough and any(fnmatchcase(alert, pattern) for pattern in patterns)
