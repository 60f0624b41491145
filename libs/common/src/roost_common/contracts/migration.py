"""Live migration of a running desktop from one node to another."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Event, NodeCommand, Problem, Telemetry
from roost_common.contracts.desktop import DesktopFact


class MigrateDesktop(NodeCommand, name="desktop.migrate.v1"):
    """Move this run of a desktop to another node; sent to the node where it runs.

    Repeating it changes nothing: a migration that is under way goes on, one that has ended is
    told of again. The definition goes with it, generation and ``boot_id`` included, and is gone
    from the source.
    """

    migration_id: UUID
    desktop_id: UUID
    boot_id: UUID = Field(description="The run that is meant; another one is refused")
    generation: int = Field(ge=1, description="Of the desired state that the target holds then")
    agent_id: UUID | None = Field(default=None, description="The run of the agent that is meant")
    target_node: str
    target_address: str = Field(description="Where the target's libvirt and QEMU are reached")
    deadline_s: int = Field(default=300, ge=1, description="Given up after this time")

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class CancelMigration(NodeCommand, name="migration.cancel.v1"):
    """Give a migration up, if it is not over; the desktop goes on where it runs."""

    migration_id: UUID
    desktop_id: UUID

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class MigrationProgress(Telemetry, name="migration.progress.v1"):
    """How far a migration is, every second."""

    migration_id: UUID
    desktop_id: UUID
    node: str
    percent: float = Field(ge=0, le=100)

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class MigrationEnded(Event, name="migration.ended.v1"):
    """The source node's word on a migration: what it knows of its end.

    Where the desktop is then is told by both nodes' observations alone.
    """

    migration_id: UUID
    desktop_id: UUID
    node: str
    problem: Problem | None = Field(default=None, description="Why it was not moved; none: it was")

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class DesktopMigrated(DesktopFact, name="desktop.migrated.v1"):
    """It runs on another host now; the run, and whoever looks at it, is the same."""

    migration_id: UUID
    from_host: str
