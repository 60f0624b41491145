"""Hosts that are given time to come back after the whole site was away."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("spared_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("hosts", "spared_until")
