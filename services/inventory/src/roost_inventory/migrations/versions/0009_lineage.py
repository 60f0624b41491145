"""Which runs of a desktop follow each other for the same user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("desktops", sa.Column("lineage", sa.Uuid, nullable=True))
    op.execute("update desktops set lineage = boot_id")


def downgrade() -> None:
    op.drop_column("desktops", "lineage")
