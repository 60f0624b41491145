"""Hosts in maintenance, and how many desktops a fence said nothing about."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The defaults stay: copies of the version before go on while one after the other is replaced.
    op.add_column(
        "hosts", sa.Column("maintained", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("hosts", sa.Column("decided_at", sa.DateTime(timezone=True)))
    op.add_column("incidents", sa.Column("kept", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("incidents", "kept")
    op.drop_column("hosts", "decided_at")
    op.drop_column("hosts", "maintained")
