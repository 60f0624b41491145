"""Inventory's settings: ``ROOST_INVENTORY_…``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from roost_common.settings import CentralSettings
from roost_inventory.placement import Overcommit, Policy


class Settings(CentralSettings):
    """Inventory's settings."""

    model_config = SettingsConfigDict(env_prefix="ROOST_INVENTORY_", extra="forbid", frozen=True)

    auto_approve: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Names of nodes approved at once: globs, comma-separated"),
    ] = ()
    placement_policy: Annotated[
        Policy, Field(description="spread: even use of hosts; pack: few hosts, others empty")
    ] = Policy.SPREAD
    cpu_overcommit: Annotated[
        float, Field(gt=0, le=100, description="vCPUs promised per logical processor")
    ] = 10.0
    memory_overcommit: Annotated[
        float, Field(gt=0, le=10, description="Guests' memory promised per memory of a host")
    ] = 1.0
    memory_reserve_mib: Annotated[
        int, Field(ge=0, description="Memory of each host that no guest gets")
    ] = 512
    shutdown_grace_s: Annotated[
        int, Field(ge=0, le=3600, description="Seconds a guest has to shut down when asked")
    ] = 120
    reconcile_interval_s: Annotated[
        float, Field(gt=0, le=60, description="How often what is due is looked for unasked")
    ] = 1.0
    readings_interval_s: Annotated[
        float, Field(ge=0, description="How often a node's statistics are written down")
    ] = 30.0
    reboot_deadline_s: Annotated[
        float, Field(gt=0, le=60, description="How long a node has to answer a reboot")
    ] = 10.0

    migration_deadline_s: Annotated[
        int, Field(ge=10, le=86400, description="How long a desktop may take to another host")
    ] = 600
    evacuations_at_once: Annotated[
        int, Field(ge=1, le=16, description="Desktops that leave a host at once for maintenance")
    ] = 2

    @field_validator("auto_approve", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def overcommit(self) -> Overcommit:
        """How much is promised on a host."""
        return Overcommit(self.cpu_overcommit, self.memory_overcommit, self.memory_reserve_mib)
