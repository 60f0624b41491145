"""Desktops that were deleted before they were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("desktop_id", sa.Uuid, nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("desktop_id", name="pk_revocations"),
    )


def downgrade() -> None:
    op.drop_table("revocations")
