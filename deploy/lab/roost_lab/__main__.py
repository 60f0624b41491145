"""``python -m roost_lab up|down|status|migrate|node``: what ``deploy/lab/*`` call."""

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
    return _node(arguments, Lab(site))


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
            node.restart(LIBVIRTD)
        case "restart-agent":
            node.restart(AGENT)
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
    verbs = "\n".join(f"  {verb:17} {text}" for verb, text in NODE_VERBS.items())
    node = commands.add_parser(
        "node",
        help="make a node die, be partitioned, rejoin, boot",
        epilog=verbs,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    node.add_argument("name")
    node.add_argument("verb", choices=NODE_VERBS, metavar="VERB")
    node.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
