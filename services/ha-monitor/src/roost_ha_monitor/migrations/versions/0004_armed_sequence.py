"""Since which beat a node's lease counts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "hosts", sa.Column("armed_sequence", sa.BigInteger, nullable=False, server_default="0")
    )
    op.alter_column("hosts", "armed_sequence", server_default=None)


def downgrade() -> None:
    op.drop_column("hosts", "armed_sequence")
