"""Which runs of a desktop follow each other for the same session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pool_desktops", sa.Column("lineage", sa.Uuid(), nullable=True))
    op.execute("update pool_desktops set lineage = boot_id")


def downgrade() -> None:
    op.drop_column("pool_desktops", "lineage")
