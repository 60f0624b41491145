"""What all nouns have in common, registered from data: list, show, delete, and plain verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import typer

from roost_client import Accepted, Collection, JsonObject, Roost
from roost_client.cli.session import Name, Output, current
from roost_client.cli.table import Column, Part

Limit = Annotated[int | None, typer.Option(min=1, help="At most so many; without it all.")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="field=value, as the server's list takes it; may be repeated."),
]


@dataclass(frozen=True)
class Verb:
    """``roost NOUN VERB NAME``, done by ``POST …/NAME/VERB`` without a body."""

    name: str
    help: str
    past: str
    """What is said afterwards: "is starting"."""


@dataclass(frozen=True)
class Noun:
    """A collection on the command line."""

    name: str
    singular: str
    help: str
    collection: Callable[[Roost], Collection]
    columns: tuple[Column, ...]
    verbs: tuple[Verb, ...] = ()
    delete: str | None = None
    """Name of the verb that deletes, where there is one: delete, logoff."""
    deleted: str = "is being deleted"
    shown: bool = True
    """Whether the server can be asked for a single one."""
    parts: tuple[Part, ...] = ()
    """What a single one has besides its fields."""


def group_for(noun: Noun) -> typer.Typer:
    """The noun's group with its common commands; ``roost desktops`` alone lists."""
    group = typer.Typer(help=noun.help)

    @group.callback(invoke_without_command=True)
    def alone(
        context: typer.Context,
        output: Output = None,
        limit: Limit = None,
        where: Where = None,
    ) -> None:
        if context.invoked_subcommand is None:
            show_all(context, noun, limit, where)

    @group.command("list", help=f"List {noun.name}.")
    def list_(
        context: typer.Context,
        output: Output = None,
        limit: Limit = None,
        where: Where = None,
    ) -> None:
        show_all(context, noun, limit, where)

    if noun.shown:
        _add_show(group, noun)
    for verb in noun.verbs:
        _add_verb(group, noun, verb)
    if noun.delete is not None:
        _add_delete(group, noun, noun.delete)
    return group


def show_all(
    context: typer.Context, noun: Noun, limit: int | None, where: list[str] | None
) -> None:
    """Every object of the noun that the filters let through, or the first ``limit``."""
    filters = {}
    for one in where or []:
        field, separator, value = one.partition("=")
        if not separator or not field:
            raise typer.BadParameter(f"{one!r} is not field=value")
        filters[field] = value
    run = current(context)
    with run.connect() as roost:
        run.show_list(islice(noun.collection(roost).list(**filters), limit), noun.columns)


def given(**fields: object) -> JsonObject:
    """What was said on the command line; the rest is the server's to choose."""
    return {name: value for name, value in fields.items() if value not in (None, {}, "")}


def say_done(context: typer.Context, noun: Noun, name: str, past: str, done: Accepted) -> None:
    """The outcome of a verb; the document is the server's, or names what was done."""
    run = current(context)
    run.say(f"{noun.singular.capitalize()} {name} {past}.", done.item or {"name": name})


def _add_show(group: typer.Typer, noun: Noun) -> None:
    @group.command("show", help=f"Show one {noun.singular}, whole.")
    def show(context: typer.Context, name: Name, output: Output = None) -> None:
        run = current(context)
        with run.connect() as roost:
            run.show_one(noun.collection(roost).get(name), noun.parts)


def _add_verb(group: typer.Typer, noun: Noun, verb: Verb) -> None:
    @group.command(verb.name, help=verb.help)
    def act(context: typer.Context, name: Name, output: Output = None) -> None:
        with current(context).connect() as roost:
            done = noun.collection(roost).act(name, verb.name)
        say_done(context, noun, name, verb.past, done)


def _add_delete(group: typer.Typer, noun: Noun, word: str) -> None:
    @group.command(word, help=f"{word.capitalize()} one {noun.singular}.")
    def delete(context: typer.Context, name: Name, output: Output = None) -> None:
        with current(context).connect() as roost:
            done = noun.collection(roost).delete(name)
        say_done(context, noun, name, noun.deleted, done)
