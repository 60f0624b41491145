"""What a host's failure leaves: which run was told, whose it was, who goes first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("desktops", sa.Column("told_agent", sa.Uuid, nullable=True))
    for table, name in (("desktops", "restarting"), ("hosts", "fenced")):
        op.add_column(table, sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))
        op.alter_column(table, name, server_default=None)
    op.add_column(
        "desktops", sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("50"))
    )
    op.alter_column("desktops", "priority", server_default=None)
    op.add_column("hosts", sa.Column("fenced_agent", sa.Uuid, nullable=True))


def downgrade() -> None:
    op.drop_column("hosts", "fenced_agent")
    op.drop_column("hosts", "fenced")
    for name in ("priority", "restarting", "told_agent"):
        op.drop_column("desktops", name)
