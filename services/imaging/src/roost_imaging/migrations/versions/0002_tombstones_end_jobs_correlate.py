"""When a disk was deleted, so that its tombstone can end; the request that made a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("disks", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    # When the tombstones that are there began nobody knows; now is the latest that it can be.
    op.execute("update disks set deleted_at = now() where state = 'deleted'")
    op.create_index(op.f("ix_disks_deleted_at"), "disks", ["deleted_at"], unique=False)
    op.add_column("jobs", sa.Column("correlation_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "correlation_id")
    op.drop_index(op.f("ix_disks_deleted_at"), table_name="disks")
    op.drop_column("disks", "deleted_at")
