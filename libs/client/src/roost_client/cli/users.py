"""``roost users``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli import password
from roost_client.cli.noun import Noun, given, group_for, say_done
from roost_client.cli.password import PasswordStdin
from roost_client.cli.session import Name, Output, current
from roost_client.cli.table import Column

USERS = Noun(
    name="users",
    singular="user",
    help="Local users.",
    collection=lambda roost: roost.users,
    columns=(
        Column("name", "name"),
        Column("full name", "full_name"),
        Column("roles", "roles"),
        Column("groups", "groups"),
        Column("disabled", "disabled"),
    ),
    delete="delete",
    deleted="is deleted",
)

group = group_for(USERS)


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the user logs in with.")],
    *,
    full_name: Annotated[str | None, typer.Option(help="For people.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    password_stdin: PasswordStdin = False,
    output: Output = None,
) -> None:
    """Make a user; the password is asked for."""
    secret = password.read(from_stdin=password_stdin, prompt=f"Password for {name}", confirm=True)
    roles = ["admin"] if admin else None
    new = given(name=name, password=secret, full_name=full_name, roles=roles)
    with current(context).connect() as roost:
        made = roost.users.create(new)
    say_done(context, USERS, name, "is made", made)


@group.command("set-password")
def set_password(
    context: typer.Context,
    name: Name,
    password_stdin: PasswordStdin = False,
    output: Output = None,
) -> None:
    """Give a user another password."""
    secret = password.read(
        from_stdin=password_stdin, prompt=f"New password of {name}", confirm=True
    )
    with current(context).connect() as roost:
        done = roost.users.change(name, {"password": secret})
    say_done(context, USERS, name, "has a new password", done)
