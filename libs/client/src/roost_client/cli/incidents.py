"""``roost ha incidents``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli import sure
from roost_client.cli.noun import Noun, group_for
from roost_client.cli.session import Output, current
from roost_client.cli.sure import Yes
from roost_client.cli.table import Column, Part, when

INCIDENTS = Noun(
    name="incidents",
    singular="incident",
    help="Incidents: what happened to hosts, and what became of their desktops; "
    "--where open=true leaves out those that are over.",
    collection=lambda roost: roost.incidents,
    columns=(
        Column("id", "id"),
        Column("node", "node"),
        Column("state", "state"),
        Column("noticed", "noticed_at", when),
        Column("fenced by", "fenced_by"),
        Column("fenced", "fenced_at", when),
        Column("all back", "all_back_at", when),
        Column("resolution", "resolution"),
        Column("detail", "detail"),
    ),
    parts=(
        Part(
            "attempts",
            (
                Column("agent", "agent"),
                Column("started", "started_at", when),
                Column("ended", "ended_at", when),
                Column("fenced", "fenced"),
                Column("outcome", "outcome"),
            ),
        ),
        Part(
            "desktops",
            (
                Column("name", "name"),
                Column("priority", "priority"),
                Column("fate", "fate"),
                Column("settled", "settled_at", when),
                Column("reason", "reason"),
            ),
        ),
        Part(
            "alerts",
            (
                Column("alert", "alert"),
                Column("raised", "raised_at", when),
                Column("cleared", "cleared_at", when),
                Column("acknowledged by", "acknowledged_by"),
            ),
        ),
    ),
)

group = group_for(INCIDENTS)


@group.command("confirm")
def confirm(
    context: typer.Context,
    incident: Annotated[str, typer.Argument(metavar="ID", help="Id of the incident.")],
    *,
    yes: Yes = False,
    output: Output = None,
) -> None:
    """Say that you switched the host off: its desktops are restarted elsewhere."""
    run = current(context)
    asks = sure.must_ask(yes=yes)
    with run.connect() as roost:
        if asks:
            node = roost.incidents.get(incident).get("node")
            sure.ask(
                f"Host {node} must be off. One that still runs destroys the disks of its desktops "
                "when they are started elsewhere.",
                f"Have you seen that {node} is off?",
            )
        done = roost.incidents.act(incident, "confirm").item
    run.say(f"Host {done.get('node')} is confirmed to be off; its desktops are restarted.", done)
