"""``python -m roost_lab up|down|status|migrate|service|node``: what ``deploy/lab/*`` call."""

from __future__ import annotations

import argparse
import os
import sys

from roost_lab import lab as labs
from roost_lab import network, status
from roost_lab import site as sites
from roost_lab.errors import LabError
from roost_lab.lab import Lab
from roost_lab.node import AGENT, LIBVIRTD
from roost_lab.paths import Paths
from roost_lab.process import run

NODE_VERBS = {
    "kill": "cut its power: every process on it dies at once",
    "start": "boot it",
    "cut": "take it off the network; it goes on running",
    "heal": "put it back on the network",
    "restart-libvirtd": "restart libvirtd; its desktops run on",
    "restart-agent": "restart the host agent",
    "status": "what runs on it",
    "exec": "run a command on it: node node-a exec virsh list",
}


SERVICE_VERBS = {
    "restart": "stop it in good order and start it again",
    "kill": "SIGKILL, as a crash; it comes back by itself",
    "pid": "its process id (a node's programs: the one on that node); 0 when it does not run",
    "status": "its state",
}


def main() -> int:
    """0 done, 1 refused or failed, 2 usage."""
    arguments = _parser().parse_args()
    paths = Paths.here()
    try:
        return _act(arguments, paths)
    except LabError as error:
        print(f"\n{arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{arguments.command}: interrupted; say it again to go on", file=sys.stderr)
        return 1


def _act(arguments: argparse.Namespace, paths: Paths) -> int:
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and starts virtual machines: run it as root")
    if arguments.command == "up":
        with labs.exclusive(paths):
            paths.make()
            Lab(sites.settle(paths, arguments.nodes)).up()
        return 0
    site = sites.load(paths)
    if arguments.command == "down":
        with labs.exclusive(paths):
            if site is not None:
                paths.make()
                Lab(site).down()
            if arguments.purge:
                labs.purge(paths)
        return 0
    if site is None:
        raise LabError("there is no lab yet: `make up` makes one")
    if arguments.command == "status":
        return 0 if status.show(Lab(site)) else 1
    if arguments.command == "migrate":
        Lab(site).migrate()
        return 0
    if arguments.command == "service":
        return _service(arguments, Lab(site))
    return _node(arguments, Lab(site))


def _service(arguments: argparse.Namespace, lab: Lab) -> int:
    keeper, name = lab.keeper(arguments.name)
    match arguments.verb:
        case "restart":
            keeper.restart(name)
        case "kill":
            keeper.kill(name)
        case "pid":
            print(keeper.pid(name) or 0)
            return 0
    print(f"{arguments.name} {keeper.state(name).lower()}")
    return 0


def _node(arguments: argparse.Namespace, lab: Lab) -> int:
    lab.site.node(arguments.name)
    node = next(node for node in lab.nodes if node.name == arguments.name)
    match arguments.verb:
        case "kill":
            node.kill()
        case "start":
            node.start()
        case "cut":
            network.cut(node.name)
        case "heal":
            network.heal(node.name)
        case "restart-libvirtd":
            node.init.restart(LIBVIRTD)
        case "restart-agent":
            node.init.restart(AGENT)
        case "exec":
            words = [*node.enter(), *arguments.words]
            os.execv(words[0], words)
    programs = ", ".join(f"{name} {state.lower()}" for name, state in node.programs().items())
    print(f"{node.name} {node.state()} {node.address} {programs}".rstrip())
    if arguments.verb == "status" and node.state() in ("on", "cut"):
        print(run([*node.enter(), "virsh", "list", "--all"]).rstrip())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy/lab")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring the lab up")
    up.add_argument("--nodes", type=int, metavar="N", help="KVM nodes (2, or as many as before)")
    down = commands.add_parser("down", help="take the lab down")
    down.add_argument("--purge", action="store_true", help="forget its data too")
    commands.add_parser("status", help="show every part")
    commands.add_parser("migrate", help="bring the database of a running lab up to date")
    _verbs(
        commands.add_parser(
            "node",
            help="make a node die, be partitioned, rejoin, boot",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ),
        NODE_VERBS,
    ).add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    _verbs(
        commands.add_parser(
            "service",
            help="restart or crash one program: broker, postgres, node-a-agent …",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ),
        SERVICE_VERBS,
    )
    return parser


def _verbs(parser: argparse.ArgumentParser, verbs: dict[str, str]) -> argparse.ArgumentParser:
    parser.epilog = "\n".join(f"  {verb:17} {text}" for verb, text in verbs.items())
    parser.add_argument("name")
    parser.add_argument("verb", choices=verbs, metavar="VERB")
    return parser


if __name__ == "__main__":
    sys.exit(main())
