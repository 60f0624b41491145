"""``roost ha``: health of hosts, alerts, and which copy of ha-monitor decides."""

from __future__ import annotations

import typer

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
)

group = typer.Typer(help="Health of hosts, and alerts.", no_args_is_help=True)
group.add_typer(group_for(HA_HOSTS), name="hosts")
group.add_typer(group_for(ALERTS), name="alerts")


@group.command("leader")
def leader(context: typer.Context, output: Output = None) -> None:
    """Show which copy of ha-monitor decides."""
    run = current(context)
    with run.connect() as roost:
        run.show_one(roost.ha_leader())
