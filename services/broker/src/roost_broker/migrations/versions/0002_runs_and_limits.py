"""Runs of agents, reports by broker's clock, and the limits of placement in inventory's words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # A projection: the next report of each node writes it anew.
    op.execute("delete from hosts")
    op.add_column("hosts", sa.Column("agent_id", sa.Uuid(), nullable=False))
    op.add_column("hosts", sa.Column("agent_since", TIME, nullable=False))
    op.add_column("hosts", sa.Column("retired_agents", postgresql.ARRAY(sa.Uuid()), nullable=False))
    op.add_column("hosts", sa.Column("sent_at", TIME, nullable=True))
    op.alter_column("hosts", "reported_at", nullable=True)
    op.drop_column("hosts", "max_vcpus")
    op.drop_column("hosts", "memory_mib")
    op.add_column("sessions", sa.Column("observed_by", sa.Uuid(), nullable=True))
    op.create_table(
        "placement_limits",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("largest", postgresql.JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_placement_limits")),
    )


def downgrade() -> None:
    op.execute("delete from hosts")
    op.drop_table("placement_limits")
    op.drop_column("sessions", "observed_by")
    op.add_column("hosts", sa.Column("memory_mib", sa.BigInteger(), nullable=False))
    op.add_column("hosts", sa.Column("max_vcpus", sa.Integer(), nullable=False))
    op.alter_column("hosts", "reported_at", nullable=False)
    op.drop_column("hosts", "sent_at")
    op.drop_column("hosts", "retired_agents")
    op.drop_column("hosts", "agent_since")
    op.drop_column("hosts", "agent_id")
