"""Settings of ha-monitor: ``ROOST_HA_MONITOR_…``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from roost_common.settings import CentralSettings
from roost_ha_monitor.detector import Policy
from roost_ha_monitor.hearing import DEAF_AFTER_S


class Settings(CentralSettings):
    """How long silence may last, and how long alerts are kept."""

    model_config = SettingsConfigDict(env_prefix="ROOST_HA_MONITOR_", extra="forbid", frozen=True)

    suspect_after_s: Annotated[
        float, Field(gt=DEAF_AFTER_S, description="Seconds without a beat until suspected")
    ] = Policy.suspect_after_s
    down_after_s: Annotated[
        float, Field(gt=DEAF_AFTER_S, description="Seconds without a beat until down")
    ] = Policy.down_after_s
    quiet_s: Annotated[
        float, Field(ge=0, description="Seconds a host that was down beats until it counts as up")
    ] = Policy.quiet_s
    alerts_kept_days: Annotated[
        int, Field(ge=1, description="Days for which cleared alerts can be looked up")
    ] = 90

    runbooks_url: Annotated[
        str, Field(max_length=500, description="Where mails say that the runbooks are")
    ] = "docs/runbooks"

    secret_key_file: Annotated[
        Path | None,
        Field(description="Keys that seal secrets, base64, one a line; without it none are taken"),
    ] = None

    prefetch: Annotated[
        int, Field(ge=1, le=1000, description="Beats the bus sends ahead of their handling")
    ] = 200

    @model_validator(mode="after")
    def _suspected_first(self) -> Settings:
        if self.down_after_s <= self.suspect_after_s:
            raise ValueError("down_after_s must be more than suspect_after_s")
        return self

    @property
    def policy(self) -> Policy:
        """The detector's part of the settings."""
        return Policy(self.suspect_after_s, self.down_after_s, self.quiet_s)
