"""Channels and notifications."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "channels",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("min_severity", sa.String(16), nullable=False),
        sa.Column("alerts", postgresql.JSONB, nullable=False),
        sa.Column("repeat_after_s", sa.Integer, nullable=False),
        sa.Column("target", postgresql.JSONB, nullable=False),
        sa.Column("secrets", sa.LargeBinary),
        sa.Column("secret_names", postgresql.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channels")),
        sa.UniqueConstraint("name", name=op.f("uq_channels_name")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("channel_id", sa.Uuid, nullable=False),
        sa.Column("about", sa.String(16), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("alert_id", sa.Uuid, nullable=False),
        sa.Column("alert", sa.String(64), nullable=False),
        sa.Column("object", sa.String(253), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("maybe_arrived", sa.Boolean, nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint(
            "alert_id",
            "channel_id",
            "about",
            "number",
            name=op.f("uq_notifications_alert_id_channel_id_about_number"),
        ),
    )
    op.create_index(op.f("ix_notifications_channel_id"), "notifications", ["channel_id"])
    op.create_index(op.f("ix_notifications_finished_at"), "notifications", ["finished_at"])
    op.create_index(
        "ix_notifications_waiting",
        "notifications",
        ["channel_id", "next_at"],
        postgresql_where=sa.text("state = 'waiting'"),
    )


def downgrade() -> None:
    for table in ("notifications", "channels"):
        op.drop_table(table)
