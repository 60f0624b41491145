"""``roost ha fencing``."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Final

import typer

from roost_client import JsonObject
from roost_client.cli import document, password, sure
from roost_client.cli.session import Output, current
from roost_client.cli.sure import Yes
from roost_client.cli.table import Column, Part, plain, when

SECRET: Final = re.compile(
    r"pass(wd|word|phrase)?|secret|token|key|community|credential|cookie|pin$", re.IGNORECASE
)
"""Options whose values the server never shows; a command line can be seen by others."""


def options(value: object) -> str:
    """A device's options; the server sends none of the secrets."""
    if not isinstance(value, dict) or not value:
        return plain(value)
    shown = ("(secret)" if of is None else plain(of) for of in value.values())
    return ", ".join(f"{name}={text}" for name, text in zip(value, shown, strict=True))


DEVICES: Final = Part(
    "devices",
    (
        Column("agent", "agent"),
        Column("options", "options", options),
        Column("checked", "checked_at", when),
        Column("problem", "problem"),
    ),
)
TESTS: Final = (Column("agent", "agent"), Column("power", "power"), Column("problem", "problem"))

Node = Annotated[str, typer.Argument(help="Name of the host.")]

group = typer.Typer(help="Fence devices: what switches a host off.", no_args_is_help=True)


@group.command("show")
def show(context: typer.Context, node: Node, output: Output = None) -> None:
    """Show a host's fence devices, in the order in which they are tried."""
    run = current(context)
    with run.connect() as roost:
        run.show_one(roost.fencing.get(node), (DEVICES,))


@group.command("set")
def set_(
    context: typer.Context,
    node: Node,
    agent: Annotated[
        str | None, typer.Argument(help="A fence agent of ha-monitor's machines: fence_ipmilan.")
    ] = None,
    *,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-s", help="name=value, for the agent; may be repeated."),
    ] = None,
    ask: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a secret option: its value is asked for, or is the next line of "
            "standard input; may be repeated."
        ),
    ] = None,
    source: Annotated[
        typer.FileText | None,
        typer.Option(
            "--from",
            encoding="utf-8",
            help="Instead of AGENT: a JSON list of devices, each with agent and options, in the "
            "order in which they are tried; - is standard input.",
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Set up a host's fence devices, in place of those that it has; each is asked first."""
    # There is no way to add one: the server never tells the secrets of those that are there.
    if source is not None:
        if agent is not None or option or ask:
            raise typer.BadParameter("--from holds the devices whole: no AGENT, -s or --ask")
        devices = document.read(source)
        if not isinstance(devices, list):
            raise typer.BadParameter(f"{source.name} holds no list of devices")
    elif agent is not None:
        devices = [{"agent": agent, "options": _options(option or [], ask or [])}]
    else:
        raise typer.BadParameter("which devices? Give AGENT or --from")
    run = current(context)
    with run.connect() as roost:
        now = roost.fencing.put(node, devices)
    run.say(f"Host {node} is fenced by {_agents(now)}.", now)


@group.command("remove")
def remove(context: typer.Context, node: Node, output: Output = None) -> None:
    """Forget a host's fence devices."""
    run = current(context)
    with run.connect() as roost:
        roost.fencing.delete(node)
    run.say(f"Host {node} has no fence device.", {"node": node, "devices": []})


@group.command("test")
def ask_devices(context: typer.Context, node: Node, output: Output = None) -> None:
    """Ask a host's fence devices whether it is on; exit code 1 when one would not work."""
    run = current(context)
    with run.connect() as roost:
        answers = roost.fencing.ask(node, "test")
    run.show_list(answers, TESTS)
    if any(answer.get("problem") for answer in answers):
        raise typer.Exit(1)


@group.command("fence")
def fence(context: typer.Context, node: Node, *, yes: Yes = False, output: Output = None) -> None:
    """Switch a host off now, whether it works or not; its desktops are restarted elsewhere."""
    run = current(context)
    if sure.must_ask(yes=yes):
        sure.ask(
            f"Host {node} is switched off at once, with every desktop that runs on it: what their "
            "users have not saved is lost.",
            f"Switch {node} off?",
        )
    with run.connect() as roost:
        incident = roost.fencing.act(node, "fence").item
    run.say(f"Host {node} is being fenced, incident {incident.get('id')}.", incident)


def _options(pairs: list[str], asked: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            # Not repeated: it may be a secret with a slip of the finger.
            raise typer.BadParameter("-s takes name=value")
        if SECRET.search(name):
            raise typer.BadParameter(f"a command line can be seen by others: use --ask {name}")
        _once(name, found)
        found[name] = value
    for name in asked:
        _once(name, found)
        found[name] = _secret(name)
    return found


def _once(name: str, found: dict[str, str]) -> None:
    if name in found:
        raise typer.BadParameter(f"{name} is given twice")


def _secret(name: str) -> str:
    return password.read(from_stdin=not sys.stdin.isatty(), prompt=name, what=name)


def _agents(fencing: JsonObject) -> str:
    return ", then ".join(str(device.get("agent")) for device in fencing.get("devices") or [])
