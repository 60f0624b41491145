"""``roost pools``."""

from __future__ import annotations

from typing import Annotated

import typer

from roost_client import NotUnderstood
from roost_client.cli.hardware import MemoryMib, Monitors, Vcpus
from roost_client.cli.noun import Noun, given, group_for, say_done
from roost_client.cli.session import Name, Output, current
from roost_client.cli.table import Column

POOLS = Noun(
    name="pools",
    singular="pool",
    help="Pools: desktops of one kind for many users.",
    collection=lambda roost: roost.pools,
    columns=(
        Column("name", "name"),
        Column("kind", "kind"),
        Column("template", "template"),
        Column("min", "min"),
        Column("max", "max"),
        Column("spare", "spare"),
        Column("total", "desktops.total"),
        Column("free", "desktops.free"),
        Column("assigned", "desktops.assigned"),
        Column("starting", "desktops.starting"),
        Column("problem", "problem.code"),
    ),
)

group = group_for(POOLS)


Kind = Annotated[str | None, typer.Option(help="automatic, manual or timed.")]
Least = Annotated[int | None, typer.Option("--min", min=0, help="Desktops kept at least.")]
Most = Annotated[int | None, typer.Option("--max", min=1, help="Desktops at most.")]
Spare = Annotated[int | None, typer.Option(min=0, help="Free running desktops kept ready.")]
PerUser = Annotated[int | None, typer.Option(min=1, help="Desktops of one user.")]


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the pool is to be called.")],
    *,
    template: Annotated[str, typer.Option(help="What its desktops are made from.")],
    kind: Kind = None,
    least: Least = None,
    most: Most = None,
    spare: Spare = None,
    max_per_user: PerUser = None,
    vcpus: Vcpus = None,
    memory_mib: MemoryMib = None,
    monitors: Monitors = None,
    output: Output = None,
) -> None:
    """Make a pool; what is not given is the server's to choose."""
    new = given(
        name=name,
        kind=kind,
        template=template,
        min=least,
        max=most,
        spare=spare,
        max_per_user=max_per_user,
        spec=given(vcpus=vcpus, memory_mib=memory_mib, monitors=monitors),
    )
    with current(context).connect() as roost:
        made = roost.pools.create(new)
    say_done(context, POOLS, name, "is made", made)


@group.command("change")
def change(
    context: typer.Context,
    name: Name,
    *,
    template: Annotated[str | None, typer.Option(help="What its desktops are made from.")] = None,
    least: Least = None,
    most: Most = None,
    spare: Spare = None,
    max_per_user: PerUser = None,
    vcpus: Vcpus = None,
    memory_mib: MemoryMib = None,
    monitors: Monitors = None,
    output: Output = None,
) -> None:
    """Change a pool's sizes, template or hardware; what is not given stays."""
    fields = given(
        template=template,
        min=least,
        max=most,
        spare=spare,
        max_per_user=max_per_user,
        spec=given(vcpus=vcpus, memory_mib=memory_mib, monitors=monitors),
    )
    if not fields:
        raise typer.BadParameter("nothing to change")
    with current(context).connect() as roost:
        done = roost.pools.change(name, fields)
    say_done(context, POOLS, name, "is changed", done)


@group.command("delete")
def delete(
    context: typer.Context,
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="End its sessions first.")] = False,
    output: Output = None,
) -> None:
    """Delete a pool and its desktops; without --force only one that nobody uses."""
    with current(context).connect() as roost:
        done = roost.pools.delete(name, **({"force": "true"} if force else {}))
    say_done(context, POOLS, name, "is being deleted", done)


@group.command("entitle")
def entitle(
    context: typer.Context,
    name: Name,
    *,
    user: Annotated[list[str] | None, typer.Option(help="A user; may be repeated.")] = None,
    group_: Annotated[
        list[str] | None, typer.Option("--group", help="A group; may be repeated.")
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="And nobody else.")] = False,
    output: Output = None,
) -> None:
    """Let users and groups open the pool's desktops, besides those who may already."""
    new = [{"user": who} for who in user or []] + [{"group": which} for which in group_ or []]
    if not new and not only:
        raise typer.BadParameter("whom? Give --user or --group, or --only for nobody")
    run = current(context)
    with run.connect() as roost:
        before = [] if only else _entitled(roost.pools.part_of(name, "entitlements"))
        wanted = before + [entry for entry in new if entry not in before]
        roost.pools.replace(name, "entitlements", wanted)
    run.say(f"Pool {name} is open to {_names(wanted)}.", {"name": name, "entitlements": wanted})


def _entitled(content: object) -> list[dict[str, str]]:
    """Users and groups by name, whatever else the server says about them."""
    if isinstance(content, dict):
        content = content.get("items")
    if not isinstance(content, list):
        raise NotUnderstood("client.answer-odd", "The entitlements are no list.")
    return [
        {kind: str(entry[kind])}
        for entry in content
        for kind in ("user", "group")
        if isinstance(entry, dict) and entry.get(kind)
    ]


def _names(entitled: list[dict[str, str]]) -> str:
    names = [f"{kind} {who}" for entry in entitled for kind, who in entry.items()]
    return ", ".join(names) or "nobody"
