"""Hosts, desktops, projections, and the tables of the plumbing."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = postgresql.JSONB()
WORD = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "desktop_sessions",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("desktop_id", sa.Uuid, nullable=False),
        sa.Column("user", sa.String(255), nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_desktop_sessions"),
    )
    op.create_index("ix_desktop_sessions_desktop_id", "desktop_sessions", ["desktop_id"])
    op.create_index("ix_desktop_sessions_user", "desktop_sessions", ["user"])
    op.create_table(
        "hosts",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("administrative", WORD, nullable=False),
        sa.Column("health", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("address", sa.String(253), nullable=False),
        sa.Column("capabilities", JSON, nullable=False),
        sa.Column("stats", JSON, nullable=False),
        sa.Column("cpus", sa.Integer, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("max_vcpus", sa.Integer, nullable=False),
        sa.Column("spice", sa.Boolean, nullable=False),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("agent_since", TIME, nullable=False),
        sa.Column("reported_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("approved_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
        sa.UniqueConstraint("name", name="uq_hosts_name"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.Uuid, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("handled_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_inbox"),
    )
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"])
    op.create_table(
        "node_health",
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("health", WORD, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_node_health"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("routing_key", sa.String(512), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("envelope", JSON, nullable=False),
        sa.Column("not_before", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_table(
        "pools",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pools"),
    )
    op.create_index("ix_pools_name", "pools", ["name"])
    op.create_table(
        "readings",
        sa.Column("desktop_id", sa.Uuid, nullable=False),
        sa.Column("guest", JSON),
        sa.Column("stats", JSON),
        sa.Column("read_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("desktop_id", name="pk_readings"),
    )
    op.create_table(
        "templates",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("os", WORD, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_templates"),
    )
    op.create_index("ix_templates_name", "templates", ["name"])
    op.create_table(
        "desktops",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("pool_id", sa.Uuid),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.Column("template", JSON, nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("power", WORD, nullable=False),
        sa.Column("power_ordered_at", TIME, nullable=False),
        sa.Column("stop", WORD, nullable=False),
        sa.Column("grace_s", sa.Integer, nullable=False),
        sa.Column("deleting", sa.Boolean, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("correlation_id", sa.String(64), nullable=False),
        sa.Column("disk_generation", sa.Integer, nullable=False),
        sa.Column("disk_ready", sa.Integer, nullable=False),
        sa.Column("disk_path", sa.String),
        sa.Column("disk_gone", sa.Boolean, nullable=False),
        sa.Column("host", sa.String(253)),
        sa.Column("reserved_vcpus", sa.Integer, nullable=False),
        sa.Column("reserved_memory_mib", sa.Integer, nullable=False),
        sa.Column("told", WORD, nullable=False),
        sa.Column("told_spec", JSON),
        sa.Column("told_stop", WORD, nullable=False),
        sa.Column("told_generation", sa.BigInteger, nullable=False),
        sa.Column("told_at", TIME),
        sa.Column("assigned_generation", sa.BigInteger, nullable=False),
        sa.Column("reachable", sa.Boolean, nullable=False),
        sa.Column("shunned", sa.String(253)),
        sa.Column("seen_host", sa.String(253)),
        sa.Column("seen_at", TIME),
        sa.Column("seen_state", WORD),
        sa.Column("seen_generation", sa.BigInteger, nullable=False),
        sa.Column("seen_problem", JSON),
        sa.Column("boot_id", sa.Uuid),
        sa.Column("spice", JSON),
        sa.Column("up_since", TIME),
        sa.Column("stop_reason", WORD, nullable=False),
        sa.Column("asked_at", TIME),
        sa.Column("asks", sa.Integer, nullable=False),
        sa.Column("retry_at", TIME),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("awaits_room", sa.Boolean, nullable=False),
        sa.Column("next_check_at", TIME),
        sa.Column("state", WORD, nullable=False),
        sa.Column("problem", JSON),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_desktops_host"),
        sa.PrimaryKeyConstraint("id", name="pk_desktops"),
    )
    op.create_index(
        "ix_desktops_awaits_room",
        "desktops",
        ["created_at"],
        postgresql_where=sa.text("awaits_room"),
    )
    op.create_index(
        "ix_desktops_due",
        "desktops",
        ["next_check_at"],
        postgresql_where=sa.text("next_check_at is not null"),
    )
    op.create_index(
        "ix_desktops_host",
        "desktops",
        ["host"],
        postgresql_include=["reserved_vcpus", "reserved_memory_mib"],
        postgresql_where=sa.text("host is not null"),
    )
    op.create_index("ix_desktops_pool_id", "desktops", ["pool_id"])
    op.create_index("ix_desktops_state", "desktops", ["state"])
    op.create_index(
        "uq_desktops_living_name",
        "desktops",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at is null"),
    )


def downgrade() -> None:
    op.drop_table("desktops")
    op.drop_table("templates")
    op.drop_table("readings")
    op.drop_table("pools")
    op.drop_table("outbox")
    op.drop_table("node_health")
    op.drop_table("inbox")
    op.drop_table("idempotency_keys")
    op.drop_table("hosts")
    op.drop_table("desktop_sessions")
