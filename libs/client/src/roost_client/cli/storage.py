"""``roost storage``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli.noun import Noun, group_for, say_done
from roost_client.cli.session import Output, current
from roost_client.cli.table import Column, size

STORAGE = Noun(
    name="storage",
    singular="storage domain",
    help="Storage domains: where templates and disks lie.",
    collection=lambda roost: roost.storage,
    columns=(
        Column("name", "name"),
        Column("state", "state"),
        Column("path", "path"),
        Column("size", "total_bytes", size),
        Column("used", "used_bytes", size),
        Column("free", "free_bytes", size),
        Column("templates", "templates"),
        Column("disks", "disks"),
    ),
    delete="delete",
    deleted="is removed; its files stay",
)

group = group_for(STORAGE)


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is to be called.")],
    path: Annotated[str, typer.Option(help="A directory on the shared file system.")],
    output: Output = None,
) -> None:
    """Add a storage domain."""
    with current(context).connect() as roost:
        made = roost.storage.create({"name": name, "path": path})
    say_done(context, STORAGE, name, "is added", made)
