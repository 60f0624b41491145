"""Desktops that are restarted or moved with their sessions; specs that say what a failure means."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("restarting", "moving"):
        op.add_column(
            "pool_desktops",
            sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()),
        )
        op.alter_column("pool_desktops", name, server_default=None)
    # A pool's spec is compared with its desktops': one without the new part is no other spec.
    policy = sa.literal({"ha": {"restart": True, "priority": 50}}, postgresql.JSONB)
    for name in ("pools", "pool_desktops"):
        spec = sa.column("spec", postgresql.JSONB)
        table = sa.table(name, spec)
        op.execute(
            sa.update(table)
            .where(~spec.has_key("ha"))
            .values(spec=spec.op("||", return_type=postgresql.JSONB)(policy))
        )


def downgrade() -> None:
    for name in ("moving", "restarting"):
        op.drop_column("pool_desktops", name)
