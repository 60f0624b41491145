"""``roost templates``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client import Accepted, JsonObject, Roost
from roost_client.cli.noun import Noun, given, group_for
from roost_client.cli.progress import PercentBar
from roost_client.cli.session import Name, Output, current
from roost_client.cli.table import Column, size

TEMPLATES = Noun(
    name="templates",
    singular="template",
    help="Templates: what desktops are made from.",
    collection=lambda roost: roost.templates,
    columns=(
        Column("name", "name"),
        Column("os", "os"),
        Column("state", "state"),
        Column("version", "version"),
        Column("storage", "storage"),
        Column("size", "virtual_bytes", size),
        Column("used", "used_bytes", size),
        Column("saved", "saved_bytes", size),
        Column("desktops", "desktops"),
    ),
    delete="delete",
)

group = group_for(TEMPLATES)

Source = Annotated[str, typer.Option("--from", help="A file of the server's import directory.")]
Sha256 = Annotated[str | None, typer.Option("--sha256", help="What the file must have.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it is done; show how far it is.")]
Patience = Annotated[float, typer.Option(min=1, help="Seconds that --wait waits at most.")]


@group.command("import")
def import_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the template is to be called.")],
    *,
    source: Source,
    os: Annotated[str, typer.Option(help="linux, windows-10, windows-11, windows-xp.")] = "linux",
    storage: Annotated[str | None, typer.Option(help="Storage domain.")] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    sha256: Sha256 = None,
    wait: Wait = False,
    patience: Patience = 3600.0,
    output: Output = None,
) -> None:
    """Make a template from an image file."""
    new = given(
        name=name,
        os=os,
        source=given(path=source, sha256=sha256),
        storage=storage,
        description=description,
    )
    with current(context).connect() as roost:
        _see_through(
            context, roost, name, roost.templates.create(new), wait=wait, patience_s=patience
        )


@group.command("add-version")
def add_version(
    context: typer.Context,
    name: Name,
    *,
    source: Source,
    sha256: Sha256 = None,
    wait: Wait = False,
    patience: Patience = 3600.0,
    output: Output = None,
) -> None:
    """Make the next version of a template from an image file."""
    with current(context).connect() as roost:
        versions = roost.templates.part(name, "versions")
        accepted = versions.create({"source": given(path=source, sha256=sha256)})
        _see_through(context, roost, name, accepted, wait=wait, patience_s=patience)


def _see_through(
    context: typer.Context,
    roost: Roost,
    name: str,
    accepted: Accepted,
    *,
    wait: bool,
    patience_s: float,
) -> None:
    run = current(context)
    if not wait or accepted.location is None:
        job = accepted.item.get("job_id")
        run.say(f"Template {name} is being imported, job {job}.", accepted.item)
        return
    work: JsonObject = {}
    with PercentBar(f"Importing {name}") as bar:
        for work in roost.follow(accepted.location, wait_s=patience_s):
            bar.at(work.get("percent"))
    run.say(f"Template {name} is imported.", work)
