"""ha-monitor's own pulse: how a copy knows that it hears the bus at all."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Telemetry


class MonitorBeat(Telemetry, name="monitor.beat.v1"):
    """Twice a second, from each copy of ha-monitor to itself: its way over the bus is whole.

    Hosts' beats take the same exchange and the same queue. A copy that does not hear itself
    concludes nothing from not hearing a host.
    """

    copy_id: UUID = Field(description="New at every start of a copy")
    sequence: int = Field(ge=1)

    @property
    def subject(self) -> str:
        return str(self.copy_id)
