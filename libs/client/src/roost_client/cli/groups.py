"""``roost groups``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client import Roost
from roost_client.cli.noun import Noun, given, group_for, say_done
from roost_client.cli.session import Name, Output, current
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


Members = Annotated[list[str], typer.Argument(help="Users.")]


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the group is to be called.")],
    members: Annotated[list[str] | None, typer.Argument(help="Users.")] = None,
    output: Output = None,
) -> None:
    """Make a group."""
    with current(context).connect() as roost:
        made = roost.groups.create(given(name=name, members=members))
    say_done(context, GROUPS, name, "is made", made)


@group.command("add")
def add(context: typer.Context, name: Name, members: Members, output: Output = None) -> None:
    """Add users to a group."""
    with current(context).connect() as roost:
        before = _members(roost, name)
        after = before + [member for member in members if member not in before]
        done = roost.groups.change(name, {"members": after})
    say_done(context, GROUPS, name, f"has {len(after)} members", done)


@group.command("remove")
def remove(context: typer.Context, name: Name, members: Members, output: Output = None) -> None:
    """Take users out of a group."""
    with current(context).connect() as roost:
        after = [member for member in _members(roost, name) if member not in members]
        done = roost.groups.change(name, {"members": after})
    say_done(context, GROUPS, name, f"has {len(after)} members", done)


def _members(roost: Roost, name: str) -> list[str]:
    return [str(member) for member in roost.groups.get(name).get("members", [])]
