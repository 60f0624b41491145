"""``roost migrations``."""

from __future__ import annotations

from roost_client.cli.noun import Noun, group_for
from roost_client.cli.table import Column, when

MIGRATIONS = Noun(
    name="migrations",
    singular="migration",
    help="Migrations: desktops on their way from host to host.",
    collection=lambda roost: roost.migrations,
    columns=(
        Column("id", "id"),
        Column("desktop", "desktop"),
        Column("from", "from"),
        Column("to", "to"),
        Column("state", "state"),
        Column("percent", "percent"),
        Column("cause", "cause"),
        Column("since", "created_at", when),
        Column("problem", "problem.code"),
    ),
    delete="cancel",
    deleted="is being cancelled",
)

group = group_for(MIGRATIONS)
