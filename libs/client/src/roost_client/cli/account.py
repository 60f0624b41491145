"""``roost login``, ``logout``, ``whoami``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from roost_client import Roost
from roost_client.cli import password
from roost_client.cli.credentials import Login
from roost_client.cli.password import PasswordStdin
from roost_client.cli.session import Output, current


def login(
    context: typer.Context,
    user: Annotated[
        str | None, typer.Option("--user", "-u", envvar="ROOST_USER", help="Who logs in.")
    ] = None,
    password_stdin: PasswordStdin = False,
    output: Output = None,
) -> None:
    """Log in; the token is kept in a file that only you can read."""
    run = current(context)
    last = run.tokens.find(run.url)
    url = run.url or (last.url if last else None)
    if url is None:
        raise typer.BadParameter("which Roost? Give --url or set ROOST_URL")
    if user is None:
        if not sys.stdin.isatty():
            raise typer.BadParameter("who? Give --user")
        user = str(typer.prompt("User", err=True))
    secret = password.read(from_stdin=password_stdin, prompt=f"Password of {user}")
    ca = run.ca or (last.ca if last else None)
    with Roost(url, ca=ca) as roost:
        account = roost.log_in(user, secret)
    made = Login(
        url=url,
        user=user,
        token=account.token,
        expires_at=time.time() + account.expires_in_s,
        ca=None if ca is None else str(Path(ca).resolve()),
    )
    run.tokens.keep(made)
    run.say(f"Logged in at {url} as {user}.", {"url": url, "user": user})


def logout(context: typer.Context, output: Output = None) -> None:
    """Forget the login."""
    run = current(context)
    last = run.tokens.find(run.url)
    if last is None or not run.tokens.forget(last.url):
        run.say("Not logged in.", {"url": run.url, "logged_out": False})
        return
    run.say(f"Logged out at {last.url}.", {"url": last.url, "logged_out": True})
    if os.environ.get("ROOST_TOKEN"):
        typer.echo("ROOST_TOKEN is still set.", err=True)


def whoami(context: typer.Context, output: Output = None) -> None:
    """Show whom the token speaks for."""
    run = current(context)
    with run.connect() as roost:
        run.show_one(roost.me())
