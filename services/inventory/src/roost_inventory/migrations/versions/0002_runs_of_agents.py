"""Which run of a node's agent saw a desktop, and which runs are over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("desktops", sa.Column("seen_agent", sa.Uuid, nullable=True))
    op.add_column(
        "hosts",
        sa.Column("retired_agents", postgresql.ARRAY(sa.Uuid), nullable=False, server_default="{}"),
    )
    op.alter_column("hosts", "retired_agents", server_default=None)


def downgrade() -> None:
    op.drop_column("hosts", "retired_agents")
    op.drop_column("desktops", "seen_agent")
