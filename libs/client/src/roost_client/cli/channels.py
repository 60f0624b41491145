"""``roost ha channels`` and ``notifications``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli import document
from roost_client.cli.noun import Noun, Verb, given, group_for, say_done
from roost_client.cli.session import Output, current
from roost_client.cli.table import Column, when

CHANNELS = Noun(
    name="channels",
    singular="channel",
    help="Channels: who is told of alerts, and how.",
    collection=lambda roost: roost.channels,
    columns=(
        Column("name", "name"),
        Column("kind", "kind"),
        Column("from severity", "min_severity"),
        Column("alerts", "alerts"),
        Column("repeat after s", "repeat_after_s"),
        Column("id", "id"),
    ),
    verbs=(Verb("test", "Tell it something now, and say how that went.", "was told a test"),),
    delete="delete",
    deleted="is deleted",
)
NOTIFICATIONS = Noun(
    name="notifications",
    singular="notification",
    help="What is to be told, and what was; --where state=waiting shows what is stuck.",
    collection=lambda roost: roost.notifications,
    columns=(
        Column("created", "created_at", when),
        Column("channel", "channel"),
        Column("about", "about"),
        Column("alert", "alert"),
        Column("object", "object"),
        Column("state", "state"),
        Column("attempts", "attempts"),
        Column("next", "next_at", when),
        Column("last error", "last_error"),
    ),
    shown=False,
)

group = group_for(CHANNELS)


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the channel is to be called.")],
    *,
    source: Annotated[
        typer.FileText,
        typer.Option(
            "--from",
            encoding="utf-8",
            help="JSON as the server takes it: target with its secrets, and what else is not "
            "given here; - is standard input.",
        ),
    ],
    min_severity: Annotated[
        str | None, typer.Option(help="From which on: normal, warning, error or alert.")
    ] = None,
    alerts: Annotated[
        list[str] | None, typer.Option(help="Shell pattern of names; may be repeated.")
    ] = None,
    repeat_after: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seconds until an alert that nobody has acknowledged, of severity alert, is told "
            "again; 0: never.",
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Tell somebody else of alerts, too."""
    described = document.read(source)
    if not isinstance(described, dict):
        raise typer.BadParameter(f"{source.name} holds no JSON object")
    # What is said on the command line comes before what the file says.
    new = described | given(
        name=name, min_severity=min_severity, alerts=alerts, repeat_after_s=repeat_after
    )
    with current(context).connect() as roost:
        made = roost.channels.create(new)
    say_done(context, CHANNELS, name, "is made", made)
