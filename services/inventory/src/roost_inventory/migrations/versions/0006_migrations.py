"""Desktops are moved from host to host while they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "migrations",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("desktop_id", sa.Uuid, nullable=False),
        sa.Column("desktop_name", sa.String(63), nullable=False),
        sa.Column("source", sa.String(253), nullable=False),
        sa.Column("target", sa.String(253), nullable=False),
        sa.Column("target_address", sa.String(253), nullable=False),
        sa.Column("target_agent", sa.Uuid, nullable=False),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("boot_id", sa.Uuid, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("percent", sa.Float, nullable=False),
        sa.Column("problem", postgresql.JSONB, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("told_agent", sa.Uuid, nullable=True),
        sa.Column("asked_at", TIME, nullable=True),
        sa.Column("asks", sa.Integer, nullable=False),
        sa.Column("given_up_at", TIME, nullable=True),
        sa.Column("source_seen", postgresql.JSONB, nullable=True),
        sa.Column("source_agent", sa.Uuid, nullable=True),
        sa.Column("source_heard_at", TIME, nullable=True),
        sa.Column("source_fenced_at", TIME, nullable=True),
        sa.Column("source_incident", sa.Uuid, nullable=True),
        sa.Column("target_seen", postgresql.JSONB, nullable=True),
        sa.Column("target_seen_agent", sa.Uuid, nullable=True),
        sa.Column("target_heard_at", TIME, nullable=True),
        sa.Column("target_fenced_at", TIME, nullable=True),
        sa.Column("target_incident", sa.Uuid, nullable=True),
        sa.Column("over_at", TIME, nullable=True),
        sa.Column("over_problem", postgresql.JSONB, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_migrations"),
    )
    op.create_index("ix_migrations_desktop_id", "migrations", ["desktop_id", "created_at"])
    op.create_index("ix_migrations_source", "migrations", ["source", "created_at"])
    op.create_index("ix_migrations_created_at", "migrations", ["created_at", "id"])
    op.add_column("desktops", sa.Column("migrating_to", sa.String(253), nullable=True))
    op.add_column("desktops", sa.Column("migration_id", sa.Uuid, nullable=True))
    op.create_foreign_key(
        "fk_desktops_migrating_to_hosts", "desktops", "hosts", ["migrating_to"], ["name"]
    )
    op.create_foreign_key(
        "fk_desktops_migration_id_migrations", "desktops", "migrations", ["migration_id"], ["id"]
    )
    op.create_index(
        "ix_desktops_migrating_to",
        "desktops",
        ["migrating_to"],
        postgresql_where=sa.text("migrating_to is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_desktops_migrating_to", "desktops")
    op.drop_column("desktops", "migration_id")
    op.drop_column("desktops", "migrating_to")
    op.drop_table("migrations")
