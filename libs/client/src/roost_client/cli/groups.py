"""``roost groups``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli.noun import Noun, group_for, say_done
from roost_client.cli.session import Output, current
from roost_client.cli.table import Column

GROUPS = Noun(
    name="groups",
    singular="group",
    help="Local groups of users.",
    collection=lambda roost: roost.groups,
    columns=(Column("name", "name"), Column("members", "members")),
    delete="delete",
    deleted="is deleted",
)

group = group_for(GROUPS)


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the group is to be called.")],
    output: Output = None,
) -> None:
    """Make an empty group."""
    with current(context).connect() as roost:
        made = roost.groups.create({"name": name})
    say_done(context, GROUPS, name, "is made", made)
