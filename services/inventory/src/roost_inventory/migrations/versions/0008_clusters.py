"""Clusters, what their policies remember, and the lease of the one that carries them out."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = postgresql.JSONB()
DEFAULT = "00000000-0000-4000-8000-000000000001"


def upgrade() -> None:
    clusters = op.create_table(
        "clusters",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("description", sa.String(1024), nullable=False),
        sa.Column("scheduling", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clusters"),
        sa.UniqueConstraint("name", name="uq_clusters_name"),
    )
    op.bulk_insert(
        clusters,
        [
            {
                "id": UUID(DEFAULT),
                "name": "default",
                "description": "",
                "scheduling": {},
                "created_at": datetime.now(UTC),
            }
        ],
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.Uuid, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    for name, kind, default in (
        ("cluster_id", sa.Uuid(), f"'{DEFAULT}'"),
        ("power", sa.String(32), "'on'"),
        ("power_order", sa.BigInteger(), "0"),
    ):
        op.add_column(
            "hosts", sa.Column(name, kind, nullable=False, server_default=sa.text(default))
        )
        op.alter_column("hosts", name, server_default=None)
    op.add_column("hosts", sa.Column("power_asked_at", TIME))
    op.add_column("hosts", sa.Column("power_refused_at", TIME))
    op.add_column("hosts", sa.Column("domains", sa.Integer))
    op.create_index("ix_hosts_cluster_id", "hosts", ["cluster_id"])
    op.create_foreign_key(
        "fk_hosts_cluster_id_clusters", "hosts", "clusters", ["cluster_id"], ["id"]
    )
    op.create_table(
        "host_watches",
        sa.Column("host_id", sa.Uuid, nullable=False),
        sa.Column("samples", JSON, nullable=False),
        sa.Column("changed_at", TIME),
        sa.Column("awake_since", TIME),
        sa.Column("empty_since", TIME),
        sa.Column("emptied_at", TIME),
        sa.Column("put_to_sleep", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("host_id", name="pk_host_watches"),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name="fk_host_watches_host_id_hosts", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("host_watches")
    op.drop_constraint("fk_hosts_cluster_id_clusters", "hosts", type_="foreignkey")
    op.drop_index("ix_hosts_cluster_id", "hosts")
    for name in (
        "domains",
        "power_refused_at",
        "power_asked_at",
        "power_order",
        "power",
        "cluster_id",
    ):
        op.drop_column("hosts", name)
    for name in ("leases", "clusters"):
        op.drop_table(name)
