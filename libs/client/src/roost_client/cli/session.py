"""One run of the command: which Roost, as whom, and how to answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, cast

import typer

from roost_client import JsonObject, Roost, RoostClientError
from roost_client.cli import table
from roost_client.cli.credentials import TokenFile
from roost_client.cli.table import Column, Part


class Format(StrEnum):
    """How answers are written."""

    TABLE = "table"
    JSON = "json"


@dataclass
class Session:
    """What the options and the environment say; made by the root command."""

    url: str | None = None
    ca: str | None = None
    token: str | None = None
    output: Format = Format.TABLE
    tokens: TokenFile = field(default_factory=TokenFile)

    @classmethod
    def of_environment(cls, *, url: str | None, ca: str | None, output: Format) -> Session:
        """The token is taken from the environment alone: a command line can be seen by others."""
        address = url.rstrip("/") if url else None
        token = os.environ.get("ROOST_TOKEN") or None
        return cls(url=address, ca=ca or None, token=token, output=output)

    def connect(self) -> Roost:
        """A client with whatever token there is."""
        login = self.tokens.find(self.url) if self.token is None or self.url is None else None
        url = self.url or (login.url if login else None)
        if url is None:
            raise typer.BadParameter("which Roost? Give --url, set ROOST_URL, or log in")
        token = self.token
        if token is None:
            if login is None:
                raise RoostClientError("client.not-logged-in", f"Not logged in at {url}.")
            if login.expired:
                raise RoostClientError(
                    "client.login-expired", f"The login at {url} has expired; log in again."
                )
            token = login.token
        return Roost(url, token=token, ca=self.ca or (login.ca if login else None))

    def say(self, text: str, document: object) -> None:
        """The outcome of an action: a line for a person, or a document."""
        if self.output is Format.JSON:
            write_json(document)
        else:
            typer.echo(text)

    def show_list(self, items: Iterable[JsonObject], columns: Sequence[Column]) -> None:
        """Many objects."""
        rows = list(items)
        if self.output is Format.JSON:
            write_json(rows)
        else:
            table.write_list(rows, columns)

    def show_one(self, item: JsonObject, parts: Sequence[Part] = ()) -> None:
        """One object, whole."""
        if self.output is Format.JSON:
            write_json(item)
        else:
            table.write_one(item, parts)


def write_json(document: object) -> None:
    """One document on standard output."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def current(context: typer.Context) -> Session:
    """The run that a command belongs to."""
    return cast(Session, context.find_root().obj)


def _set_output(context: typer.Context, value: Format | None) -> Format | None:
    if value is not None:
        current(context).output = value
    return value


Output = Annotated[
    Format | None,
    typer.Option(
        "--output", "-o", callback=_set_output, help="Table for people, json for programs."
    ),
]
"""Taken by every command, so that it may stand anywhere on the line."""

Name = Annotated[str, typer.Argument(help="Name or id.")]
