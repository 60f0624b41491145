"""``roost hosts``."""

from __future__ import annotations

from roost_client.cli.noun import Noun, Verb, group_for
from roost_client.cli.table import Column

HOSTS = Noun(
    name="hosts",
    singular="host",
    help="Hosts: the nodes that desktops run on.",
    collection=lambda roost: roost.hosts,
    columns=(
        Column("name", "name"),
        Column("state", "state"),
        Column("cpus", "cpus"),
        Column("memory MiB", "memory_mib"),
        Column("desktops", "desktops"),
        Column("leaving", "evacuation.moving"),
        Column("address", "address"),
    ),
    verbs=(
        Verb("approve", "Accept a node that enrolled itself.", "is approved"),
        Verb("maintenance", "Move its desktops away, and give it no more.", "is being emptied"),
        Verb("activate", "Give it desktops again.", "is active"),
    ),
    delete="delete",
    deleted="is deleted",
)

group = group_for(HOSTS)
