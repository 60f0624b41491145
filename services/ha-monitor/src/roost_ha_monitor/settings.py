"""Settings of ha-monitor: ``ROOST_HA_MONITOR_…``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from roost_common.settings import CentralSettings
from roost_ha_monitor.alerts import AGENT_SILENT_AFTER_S
from roost_ha_monitor.detector import Policy
from roost_ha_monitor.hearing import DEAF_AFTER_S
from roost_ha_monitor.lease_watch import MARGIN_S
from roost_ha_monitor.second_path import TRY_S


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
    boot_s: Annotated[
        float, Field(gt=0, description="Seconds a host that was switched on may take to beat")
    ] = Policy.boot_s
    return_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that hosts have to come back after all of them were silent at "
            "once, or after a start at which nobody had watched them",
        ),
    ] = Policy.return_s
    probe_ports: Annotated[
        tuple[int, ...],
        Field(description="TCP ports that tell whether a silent host lives; []: none is asked"),
    ] = (16509, 22)
    ha_dir: Annotated[
        Path | None,
        Field(description="The nodes' shared directory with their beat files, where it is mounted"),
    ] = None
    second_path_check_s: Annotated[
        float, Field(gt=0, description="Seconds between two tries of both on hosts that beat")
    ] = TRY_S
    agent_silent_after_s: Annotated[
        float, Field(ge=0, description="Seconds until a silent host that lives is an alert")
    ] = AGENT_SILENT_AFTER_S
    lease_margin_s: Annotated[
        float, Field(ge=1, description="Seconds a node's own lease is given beyond its end")
    ] = MARGIN_S

    fence_agents_dir: Annotated[Path, Field(description="Where the programs fence_* are")] = Path(
        "/usr/sbin"
    )
    fence_switch_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds until a device that switches is left for the next")
    ] = 40.0
    fence_status_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds a device may take to say on or off")
    ] = 15.0
    fence_check_s: Annotated[
        float, Field(gt=0, description="Seconds between two checks of every fence device")
    ] = 300.0
    fence_at_most: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of the hosts that may be fenced through devices at once; when more "
            "than that (and more than one) are down together, a person is asked. 1: no limit",
        ),
    ] = 1.0
    incidents_kept_days: Annotated[
        int, Field(ge=1, description="Days for which resolved incidents can be looked up")
    ] = 365
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
        return Policy(
            self.suspect_after_s, self.down_after_s, self.quiet_s, self.boot_s, self.return_s
        )
