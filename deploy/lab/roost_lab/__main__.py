"""``python -m roost_lab up|down|status|…``: what ``deploy/lab/*`` call."""

from __future__ import annotations

import argparse
import os
import sys

from roost_lab import fence_device, state, status
from roost_lab import site as sites
from roost_lab.errors import LabError
from roost_lab.fence_device import Behaviour
from roost_lab.lab import Lab
from roost_lab.node import AGENT, LIBVIRTD, Node
from roost_lab.paths import Paths
from roost_lab.process import run

KEEP_STORAGE = "--keep-storage"
NODE_VERBS = {
    "kill": "cut its power: every process on it dies at once",
    "start": "boot it",
    "cut": f"take it off the network; it goes on running ({KEEP_STORAGE}: it still sees its peers)",
    "heal": "put it back on the network",
    f"restart-{LIBVIRTD}": "restart libvirtd; its desktops run on",
    f"restart-{AGENT}": "restart the host agent",
    f"freeze-{LIBVIRTD}": "stop libvirtd where it stands",
    f"thaw-{LIBVIRTD}": "let it go on",
    f"freeze-{AGENT}": "stop the host agent where it stands; the guard goes on",
    f"thaw-{AGENT}": "let it go on",
    "device": "how its fence device behaves: node node-a device " + "|".join(Behaviour),
    "status": "what runs on it",
    "exec": "run a command on it: node node-a exec virsh list",
}
SERVICE_VERBS = {
    "restart": "stop it in good order and start it again",
    "kill": "SIGKILL, as a crash; it comes back by itself",
    "stop": "stop it in good order; it stays away",
    "start": "start it",
    "freeze": "stop it where it stands (SIGSTOP)",
    "thaw": "let it go on (SIGCONT)",
    "pid": "its process id (on its own node or machine); 0 when it does not run",
    "status": "its state",
}
MACHINE_VERBS = {
    "kill": "cut its power: all copies on it die at once",
    "start": "switch it on",
    "status": "what runs on it",
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
        with state.exclusive(paths):
            paths.make()
            site = sites.settle(
                paths, nodes=arguments.nodes, copies=arguments.copies, fencing=arguments.fencing
            )
            Lab(site).up()
        return 0
    kept = sites.load(paths)
    if arguments.command == "down":
        with state.exclusive(paths):
            if kept is not None:
                paths.make()
                Lab(kept).down()
            if arguments.purge:
                state.purge(paths)
        return 0
    if kept is None:
        raise LabError("there is no lab yet: `make up` makes one")
    lab = Lab(kept)
    match arguments.command:
        case "status":
            return 0 if status.show(lab) else 1
        case "migrate":
            lab.migrate()
        case "service":
            _service(arguments, lab)
        case "machine":
            _machine(arguments, lab)
        case _:
            _node(arguments, lab)
    return 0


def _service(arguments: argparse.Namespace, lab: Lab) -> None:
    keeper, name = lab.keeper(arguments.name)
    match arguments.verb:
        case "restart":
            keeper.restart(name)
        case "kill":
            keeper.kill(name)
        case "stop":
            keeper.stop(name)
        case "start":
            keeper.start(name)
        case "freeze":
            keeper.signal(name, "STOP")
        case "thaw":
            keeper.signal(name, "CONT")
        case "pid":
            print(keeper.pid(name) or 0)
            return
    print(f"{arguments.name} {keeper.state(name).lower()}")


def _machine(arguments: argparse.Namespace, lab: Lab) -> None:
    places = {str(place.number): place for place in lab.machines}
    place = places.get(arguments.name.removeprefix("machine-"))
    if place is None:
        raise LabError(f"there is no machine {arguments.name!r}; this lab has {', '.join(places)}")
    match arguments.verb:
        case "kill":
            place.kill()
        case "start":
            place.start()
    print(f"{place.name} {place.state()} {_listed(place.programs())}".rstrip())


def _node(arguments: argparse.Namespace, lab: Lab) -> None:
    lab.site.node(arguments.name)
    node = next(node for node in lab.nodes if node.name == arguments.name)
    _act_on(node, arguments.verb, arguments.words, lab.paths)
    print(f"{node.name} {node.state()} {node.address} {_listed(node.programs())}".rstrip())
    if arguments.verb == "status" and node.state() in ("on", "cut"):
        print(run([*node.enter(), "virsh", "list", "--all"]).rstrip())


def _act_on(node: Node, verb: str, words: list[str], paths: Paths) -> None:
    action, _, program = verb.partition("-")
    match action:
        case "kill":
            node.kill()
        case "start":
            node.start()
        case "restart":
            node.init.restart(program)
        case "freeze":
            node.init.signal(program, "STOP")
        case "thaw":
            node.init.signal(program, "CONT")
        case "cut":
            node.cut(storage=KEEP_STORAGE not in words)
        case "heal":
            node.heal()
        case "device":
            if len(words) != 1 or words[0] not in [*Behaviour]:
                raise LabError(f"a device {', '.join(Behaviour)}")
            fence_device.write(paths.fence, node.name, Behaviour(words[0]))
        case "exec":
            command = [*node.enter(), *words]
            os.execv(command[0], command)


def _listed(programs: dict[str, str]) -> str:
    return ", ".join(f"{name} {state.lower()}" for name, state in programs.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy/lab")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring the lab up; what is not given stays as it was")
    up.add_argument("--nodes", type=int, metavar="N", help="KVM nodes (at first 2)")
    up.add_argument("--copies", type=int, metavar="N", help="copies of every service (at first 1)")
    up.add_argument(
        "--fencing",
        action=argparse.BooleanOptionalAction,
        help="whether the nodes have fence devices (at first they have)",
    )
    down = commands.add_parser("down", help="take the lab down")
    down.add_argument("--purge", action="store_true", help="forget its data too")
    commands.add_parser("status", help="show every part")
    commands.add_parser("migrate", help="bring the database of a running lab up to date")
    node = _verbs(commands, "node", "make a node die, be partitioned, rejoin, boot", NODE_VERBS)
    node.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    what = "restart or crash one program: broker, broker@2, postgres, node-a-agent …"
    _verbs(commands, "service", what, SERVICE_VERBS)
    what = "make all copies on one machine of managers die, or start them: 1, 2 …"
    _verbs(commands, "machine", what, MACHINE_VERBS)
    return parser


def _verbs(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    verbs: dict[str, str],
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.epilog = "\n".join(f"  {verb:17} {text}".rstrip() for verb, text in verbs.items())
    parser.add_argument("name")
    parser.add_argument("verb", choices=verbs, metavar="VERB")
    return parser


if __name__ == "__main__":
    sys.exit(main())
