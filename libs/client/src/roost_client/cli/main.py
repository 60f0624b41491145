"""The root command: options for all, errors as one line, exit codes.

0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from roost_client import NotAuthenticated, RoostClientError
from roost_client.cli import (
    account,
    connect,
    desktops,
    groups,
    ha,
    hosts,
    jobs,
    migrations,
    pools,
    sessions,
    storage,
    templates,
    users,
)
from roost_client.cli.session import Format, Session


class _Root(TyperGroup):
    """Turns what the library raises into one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NotAuthenticated as error:
            hint = "" if ctx.invoked_subcommand == "login" else " Log in with: roost login"
            typer.echo(f"roost: {error}{hint}", err=True)
            raise typer.Exit(1) from error
        except RoostClientError as error:
            typer.echo(f"roost: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="roost",
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar="ROOST_URL", help="Address; default: the last login's.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option(envvar="ROOST_CA", help="File of the CA to trust.")
    ] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Table for people, json for programs.")
    ] = Format.TABLE,
) -> None:
    """Roost's desktops from the command line. A token may be given in ROOST_TOKEN."""
    context.obj = Session.of_environment(url=url, ca=ca, output=output)


app.command("login")(account.login)
app.command("logout")(account.logout)
app.command("whoami")(account.whoami)
app.command("connect")(connect.connect)
for name, module in {
    "desktops": desktops,
    "hosts": hosts,
    "migrations": migrations,
    "pools": pools,
    "templates": templates,
    "sessions": sessions,
    "users": users,
    "groups": groups,
    "storage": storage,
    "jobs": jobs,
    "ha": ha,
}.items():
    app.add_typer(module.group, name=name)


def main() -> None:
    """The script ``roost``."""
    app()
