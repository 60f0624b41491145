"""``roost sessions``."""

from __future__ import annotations

from roost_client.cli.noun import Noun, Verb, group_for
from roost_client.cli.table import Column, when

SESSIONS = Noun(
    name="sessions",
    singular="session",
    help="Sessions: who sits in front of which desktop.",
    collection=lambda roost: roost.sessions,
    columns=(
        Column("id", "id"),
        Column("user", "user"),
        Column("desktop", "desktop"),
        Column("pool", "pool"),
        Column("state", "state"),
        Column("client", "client"),
        Column("since", "created_at", when),
    ),
    verbs=(Verb("disconnect", "Cut the client off; the session stays.", "is disconnected"),),
    delete="logoff",
    deleted="is logged off",
)

group = group_for(SESSIONS)
