"""Settings that do not fit together are refused at the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from roost_ha_monitor.detector import Policy
from roost_ha_monitor.settings import Settings


def settings(**fields: Any) -> Settings:
    return Settings(
        amqp_url="amqp://bus", database_url="postgresql://db", listen="127.0.0.1:1", **fields
    )


def test_the_policy_is_the_detectors_unless_set() -> None:
    assert settings().policy == Policy()
    assert settings(quiet_s=3).policy == Policy(quiet_s=3)


def test_down_comes_after_suspected_and_both_after_deafness() -> None:
    with pytest.raises(ValidationError, match="more than suspect_after_s"):
        settings(suspect_after_s=4.0, down_after_s=4.0)
    with pytest.raises(ValidationError):
        settings(suspect_after_s=1.0)
