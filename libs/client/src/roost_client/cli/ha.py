"""``roost ha``: health of hosts, what is done about those that fail, and who is told."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli import channels, fencing, incidents
from roost_client.cli.noun import Noun, Verb, group_for
from roost_client.cli.session import Output, current
from roost_client.cli.table import Column, when

HA_HOSTS = Noun(
    name="hosts",
    singular="host",
    help="Health of hosts, from their beats.",
    collection=lambda roost: roost.ha_hosts,
    columns=(
        Column("node", "node"),
        Column("health", "health"),
        Column("since", "since", when),
        Column("last beat", "last_beat_at", when),
        Column("libvirt", "libvirt"),
        Column("reason", "reason"),
    ),
    delete="remove",
    deleted="is watched no more",
)
ALERTS = Noun(
    name="alerts",
    singular="alert",
    help="What somebody should know.",
    collection=lambda roost: roost.alerts,
    columns=(
        Column("id", "id"),
        Column("severity", "severity"),
        Column("alert", "alert"),
        Column("object", "object"),
        Column("raised", "raised_at", when),
        Column("acknowledged by", "acknowledged_by"),
        Column("over", "cleared_at", when),
    ),
    verbs=(Verb("acknowledge", "Say that somebody takes care.", "is acknowledged"),),
    shown=False,
)

group = typer.Typer(help="Health of hosts, incidents, fencing, alerts.", no_args_is_help=True)
group.add_typer(group_for(HA_HOSTS), name="hosts")
group.add_typer(group_for(ALERTS), name="alerts")
group.add_typer(incidents.group, name="incidents")
group.add_typer(fencing.group, name="fencing")
group.add_typer(channels.group, name="channels")
group.add_typer(group_for(channels.NOTIFICATIONS), name="notifications")


@group.command("leader")
def leader(context: typer.Context, output: Output = None) -> None:
    """Show which copy of ha-monitor decides."""
    run = current(context)
    with run.connect() as roost:
        run.show_one(roost.ha_leader())


@group.command("disarm")
def disarm(
    context: typer.Context,
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who wonder later.")],
    output: Output = None,
) -> None:
    """Fence nobody until it is armed again: for works on the site's network or power."""
    run = current(context)
    with run.connect() as roost:
        said = roost.ha_disarm(reason)
    run.say("High availability is disarmed: no host is fenced until you arm it again.", said)


@group.command("arm")
def arm(context: typer.Context, output: Output = None) -> None:
    """Let high availability act again."""
    run = current(context)
    with run.connect() as roost:
        said = roost.ha_arm()
    run.say("High availability is armed.", said)
