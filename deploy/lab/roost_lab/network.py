"""The lab's network: one bridge, and a namespace with one veth pair for every node."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from roost_lab.errors import LabError
from roost_lab.process import run

BRIDGE = "roost0"
CANDIDATES = ("10.77.0.0/24", "10.78.0.0/24", "10.79.0.0/24", "172.30.77.0/24", "192.168.177.0/24")
"""Private networks (RFC 1918), in the order in which they are tried."""
_FIRST_NODE = 11


def choose(used: Iterable[str]) -> str:
    """The first candidate that overlaps none of the networks ``used``."""
    taken = [ipaddress.ip_network(network, strict=False) for network in used]
    for candidate in CANDIDATES:
        network = ipaddress.ip_network(candidate)
        if not any(network.overlaps(other) for other in taken if other.version == 4):
            return candidate
    raise LabError(f"all of {', '.join(CANDIDATES)} are in use on this machine")


def used_networks() -> list[str]:
    """The networks this machine has routes to, the default route and the lab's own left out."""
    routes = json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]")
    return [
        route["dst"]
        for route in routes
        if route["dst"] != "default"
        and route.get("dev") != BRIDGE
        and route.get("type", "unicast") == "unicast"
    ]


@dataclass(frozen=True)
class Network:
    """The lab's addresses and links; every call may be repeated."""

    cidr: str

    @property
    def host_address(self) -> str:
        """The machine's own address on the bridge."""
        return str(ipaddress.ip_network(self.cidr)[1])

    def node_address(self, number: int) -> str:
        """The address of the node with this number, counted from 0."""
        return str(ipaddress.ip_network(self.cidr)[_FIRST_NODE + number])

    @property
    def _length(self) -> int:
        return ipaddress.ip_network(self.cidr).prefixlen

    def up(self, owner: Path) -> None:
        """Make the bridge; ``LabError`` where it belongs to another checkout's lab."""
        if owner_of_bridge() not in (None, str(owner)):
            raise LabError(
                f"another lab is up on this machine, {owner_of_bridge()}: take it down first"
                f" (or, where that is gone: ip link delete {BRIDGE})"
            )
        if not link_exists(BRIDGE):
            run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "link", "set", BRIDGE, "alias", str(owner)])
        run(["ip", "address", "replace", f"{self.host_address}/{self._length}", "dev", BRIDGE])
        run(["ip", "link", "set", BRIDGE, "up"])

    def down(self) -> None:
        """Take the bridge away."""
        if link_exists(BRIDGE):
            run(["ip", "link", "delete", BRIDGE])

    def add(self, node: str, address: str) -> None:
        """Make a node's namespace and its link to the bridge; a cut link stays cut."""
        space = namespace(node)
        if not Path("/run/netns", space).exists():
            run(["ip", "netns", "add", space])
        if not link_exists(link(node)):
            peer = ["peer", "name", "eth0", "netns", space]
            run(["ip", "link", "add", link(node), "type", "veth", *peer])
            run(["ip", "link", "set", link(node), "master", BRIDGE, "up"])
        inside = ["ip", "-n", space]
        run([*inside, "link", "set", "lo", "up"])
        run([*inside, "address", "replace", f"{address}/{self._length}", "dev", "eth0"])
        run([*inside, "link", "set", "eth0", "up"])


def remove(node: str) -> None:
    """Take a node's link and namespace away."""
    if link_exists(link(node)):
        run(["ip", "link", "delete", link(node)])
    if Path("/run/netns", namespace(node)).exists():
        run(["ip", "netns", "delete", namespace(node)])


def cut(node: str) -> None:
    """Partition a node from the network; it goes on running."""
    run(["ip", "link", "set", link(node), "down"])


def heal(node: str) -> None:
    """Let a node back onto the network."""
    run(["ip", "link", "set", link(node), "up"])


def switch(node: str, state: Literal["up", "down"]) -> None:
    """A node's own network card: without power nothing answers at its address, not even a refusal.

    Unlike a cut this is the node's end of its link.
    """
    if Path("/run/netns", namespace(node)).exists():
        run(["ip", "-n", namespace(node), "link", "set", "eth0", state])


def is_cut(node: str) -> bool:
    """Whether a node is partitioned or has no link at all."""
    flags = Path("/sys/class/net", link(node), "flags")
    return not flags.exists() or not int(flags.read_text(), 16) & 1  # IFF_UP


def owner_of_bridge() -> str | None:
    """Whose lab is up on this machine: its state directory, kept as the bridge's alias."""
    alias = Path("/sys/class/net", BRIDGE, "ifalias")
    return alias.read_text().strip() if alias.exists() else None


def leftovers() -> list[str]:
    """Nodes that have a namespace or a link on this machine."""
    prefix = "roost-"
    names = {path.name for path in Path("/sys/class/net").glob(f"{prefix}*")}
    if Path("/run/netns").exists():
        names |= {path.name for path in Path("/run/netns").glob(f"{prefix}*")}
    return sorted(name.removeprefix(prefix) for name in names)


def namespace(node: str) -> str:
    """The name of a node's network namespace."""
    return f"roost-{node}"


def link(node: str) -> str:
    """The machine's end of a node's link; a network interface's name has at most 15 characters."""
    return f"roost-{node}"


def link_exists(name: str) -> bool:
    """Whether this machine has a network interface of that name."""
    return Path("/sys/class/net", name).exists()
