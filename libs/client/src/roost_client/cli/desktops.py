"""``roost desktops``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client.cli.hardware import MemoryMib, Monitors, Vcpus
from roost_client.cli.noun import Noun, Verb, given, group_for, say_done
from roost_client.cli.progress import PercentBar
from roost_client.cli.session import Name, Output, current
from roost_client.cli.table import Column

DESKTOPS = Noun(
    name="desktops",
    singular="desktop",
    help="Desktops: what runs, where, for whom.",
    collection=lambda roost: roost.desktops,
    columns=(
        Column("name", "name"),
        Column("state", "state"),
        Column("power", "power"),
        Column("host", "host"),
        Column("pool", "pool"),
        Column("template", "template"),
        Column("users", "users"),
        Column("problem", "problem.code"),
    ),
    verbs=(
        Verb("start", "Switch a desktop on.", "is starting"),
        Verb("shutdown", "Ask its guest to shut down.", "is shutting down"),
        Verb("poweroff", "Switch it off at once, without asking its guest.", "is switched off"),
        Verb("reboot", "Ask its guest to restart.", "is restarting"),
        Verb("reimage", "Throw its disk away and begin again from the template.", "is re-imaged"),
    ),
    delete="delete",
)

group = group_for(DESKTOPS)


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the desktop is to be called.")],
    *,
    template: Annotated[str, typer.Option(help="What it is made from.")],
    vcpus: Vcpus = None,
    memory_mib: MemoryMib = None,
    monitors: Monitors = None,
    output: Output = None,
) -> None:
    """Make a desktop of its own, outside of any pool."""
    spec = given(vcpus=vcpus, memory_mib=memory_mib, monitors=monitors)
    new = given(name=name, template=template, spec=spec)
    with current(context).connect() as roost:
        made = roost.desktops.create(new)
    say_done(context, DESKTOPS, name, "is being made", made)


@group.command("migrate")
def migrate(
    context: typer.Context,
    name: Name,
    *,
    to: Annotated[
        str | None, typer.Option(help="The host; without it the one with the most room.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until it is done; show how far it is.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that --wait waits at most.")
    ] = 3600.0,
    output: Output = None,
) -> None:
    """Move a running desktop to another host; its user does not notice."""
    run = current(context)
    with run.connect() as roost:
        accepted = roost.desktops.act(name, "migrate", given(host=to))
        work, target = accepted.item, accepted.item.get("to")
        if not wait or accepted.location is None:
            run.say(f"Desktop {name} is being moved to {target}, migration {work.get('id')}.", work)
            return
        with PercentBar(f"Moving {name} to {target}") as bar:
            for work in roost.follow(accepted.location, wait_s=patience):
                bar.at(work.get("percent"))
        run.say(f"Desktop {name} runs on {target}.", work)
