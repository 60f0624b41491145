"""Fence devices, incidents, orders to switch hosts, and what they need of hosts and desktops."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW_TABLES = (
    "arming",
    "power_orders",
    "fence_devices",
    "desktops",
    "lost_desktops",
    "fencing_attempts",
    "incidents",
)
_NEW_OF_HOSTS = ("agent_id", "address", "armed", "waking")


def _time(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.add_column("hosts", sa.Column("agent_id", sa.Uuid))
    for name, kind, default in (
        ("address", sa.String(255), ""),
        ("armed", sa.Boolean, sa.false()),
        ("waking", sa.Boolean, sa.false()),
    ):
        op.add_column("hosts", sa.Column(name, kind, nullable=False, server_default=default))
        op.alter_column("hosts", name, server_default=None)
    op.create_table(
        "incidents",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        _time("noticed_at", nullable=False),
        _time("last_heard_at"),
        sa.Column("agent_id", sa.Uuid),
        sa.Column("forced_by", sa.String(255)),
        sa.Column("rounds", sa.Integer, nullable=False),
        _time("retry_at"),
        sa.Column("fenced_by", sa.String(16)),
        _time("fenced_at"),
        sa.Column("confirmed_by", sa.String(255)),
        sa.Column("lost_known", sa.Boolean, nullable=False),
        _time("first_back_at"),
        _time("all_back_at"),
        _time("resolved_at"),
        sa.Column("resolution", sa.String(16)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index(op.f("ix_incidents_node"), "incidents", ["node"])
    op.create_index(op.f("ix_incidents_noticed_at"), "incidents", ["noticed_at"])
    op.create_index(op.f("ix_incidents_resolved_at"), "incidents", ["resolved_at"])
    op.create_index(
        "uq_incidents_unfenced",
        "incidents",
        ["node"],
        unique=True,
        postgresql_where=sa.text("state IN ('fencing', 'awaiting-confirmation')"),
    )
    op.create_table(
        "fencing_attempts",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("incident_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("agent", sa.String(64), nullable=False),
        _time("started_at", nullable=False),
        _time("ended_at"),
        sa.Column("fenced", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fencing_attempts")),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.id"],
            name=op.f("fk_fencing_attempts_incident_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_fencing_attempts_incident_id"), "fencing_attempts", ["incident_id"])
    op.create_table(
        "lost_desktops",
        sa.Column("incident_id", sa.Uuid, nullable=False),
        sa.Column("desktop_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("restart", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        _time("settled_at"),
        sa.PrimaryKeyConstraint("incident_id", "desktop_id", name=op.f("pk_lost_desktops")),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.id"],
            name=op.f("fk_lost_desktops_incident_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_lost_desktops_desktop_id"), "lost_desktops", ["desktop_id"])
    op.create_table(
        "desktops",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("power", sa.String(16), nullable=False),
        sa.Column("problem_code", sa.Text, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("running_revision", sa.BigInteger, nullable=False),
        _time("running_at"),
        _time("seen_at", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_desktops")),
    )
    op.create_table(
        "fence_devices",
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("agent", sa.String(64), nullable=False),
        sa.Column("options", sa.LargeBinary, nullable=False),
        _time("changed_at", nullable=False),
        sa.Column("changed_by", sa.String(255), nullable=False),
        _time("checked_at"),
        sa.Column("problem", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("node", "position", name=op.f("pk_fence_devices")),
    )
    op.create_table(
        "power_orders",
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("power", sa.String(16), nullable=False),
        sa.Column("agent_id", sa.Uuid),
        _time("asked_at", nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("answer_name", sa.String(64), nullable=False),
        sa.Column("answer", postgresql.JSONB),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_power_orders")),
    )
    op.create_table(
        "arming",
        sa.Column("id", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("disarmed", sa.Boolean, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        _time("at", nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arming")),
    )


def downgrade() -> None:
    for table in _NEW_TABLES:
        op.drop_table(table)
    for column in _NEW_OF_HOSTS:
        op.drop_column("hosts", column)
