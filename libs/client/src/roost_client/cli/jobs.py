"""``roost jobs``."""

from __future__ import annotations

from roost_client.cli.noun import Noun, Verb, group_for
from roost_client.cli.table import Column, when

JOBS = Noun(
    name="jobs",
    singular="job",
    help="Jobs: long work and how far it is.",
    collection=lambda roost: roost.jobs,
    columns=(
        Column("id", "id"),
        Column("kind", "kind"),
        Column("template", "template"),
        Column("version", "version"),
        Column("state", "state"),
        Column("percent", "percent"),
        Column("by", "created_by"),
        Column("since", "created_at", when),
        Column("problem", "problem.code"),
    ),
    verbs=(Verb("cancel", "Have it stopped and undone.", "is being cancelled"),),
)

group = group_for(JOBS)
