"""The plan of the lab: its nodes, addresses and ports. Kept in ``.roost/lab.json``."""

from __future__ import annotations

import json
import os
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost_lab.errors import LabError
from roost_lab.network import Network, choose, used_networks
from roost_lab.paths import Paths

HTTP_PORT: Final = 8080
HTTPS_PORT: Final = 8443
POSTGRES_PORT: Final = 8131
AMQP_PORT: Final = 8132
ERLANG_PORT: Final = 8133
"""And the next one, for epmd. All apart from the usual ports, which a machine may have in use."""
DATABASE: Final = "roost"
SERVICE_PORTS: Final = {"broker": 8101, "inventory": 8102, "imaging": 8103, "ha-monitor": 8104}
"""Of the first copies; those of the next copy are `_COPY_STEP` higher, and so on."""
_COPY_STEP: Final = 10
AGENT_PORT: Final = 8110
"""On a node's own address."""
MAX_NODES: Final = 8
MAX_COPIES: Final = 3


@dataclass(frozen=True)
class NodePlan:
    """A node's name and address."""

    name: str
    address: str


@dataclass(frozen=True)
class Copy:
    """One of several equal copies of a central service; it runs on the machine of its number."""

    service: str
    number: int

    @property
    def name(self) -> str:
        """What the lab calls it: ``broker``, ``broker@2`` …"""
        return self.service if self.number == 1 else f"{self.service}@{self.number}"

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return SERVICE_PORTS[self.service] + _COPY_STEP * (self.number - 1)

    @property
    def address(self) -> str:
        """host:port of its HTTP."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Site:
    """What this lab consists of."""

    paths: Paths
    network: Network
    nodes: tuple[NodePlan, ...]
    virt_type: str = "auto"
    copies: int = 1
    fencing: bool = True
    """Whether the nodes have fence devices; without any they rely on their leases."""

    @property
    def machines(self) -> range:
        """The numbers of the machines on which copies run."""
        return range(1, self.copies + 1)

    def copies_on(self, machine: int) -> list[Copy]:
        """The copies on one machine, in the order in which they are started."""
        return [Copy(service, machine) for service in SERVICE_PORTS]

    def all_copies(self) -> list[Copy]:
        """Every copy of every central service."""
        return [copy for number in self.machines for copy in self.copies_on(number)]

    def node(self, name: str) -> NodePlan:
        """The plan of one node; ``LabError`` where there is none of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise LabError(f"there is no node {name!r}; this lab has {names}")


def plan(
    paths: Paths,
    cidr: str,
    nodes: int,
    virt_type: str = "auto",
    *,
    copies: int = 1,
    fencing: bool = True,
) -> Site:
    """A site with so many nodes, called node-a, node-b …, and so many copies of every service."""
    if not 1 <= nodes <= MAX_NODES:
        raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}")
    if not 1 <= copies <= MAX_COPIES:
        raise LabError(f"a lab has 1 to {MAX_COPIES} copies of every service, not {copies}")
    network = Network(cidr)
    named = tuple(
        NodePlan(f"node-{letter}", network.node_address(number))
        for number, letter in enumerate(string.ascii_lowercase[:nodes])
    )
    return Site(paths, network, named, virt_type, copies, fencing)


def load(paths: Paths) -> Site | None:
    """The plan of the lab that was last brought up, if any."""
    file = _file(paths)
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return plan(
        paths,
        kept["network"],
        kept["nodes"],
        kept["virt_type"],
        copies=kept.get("copies", 1),
        fencing=kept.get("fencing", True),
    )


def settle(
    paths: Paths,
    *,
    nodes: int | None = None,
    copies: int | None = None,
    fencing: bool | None = None,
) -> Site:
    """The plan to bring up: the kept one, changed where something is given."""
    kept = load(paths) or plan(paths, choose(used_networks()), 2)
    virt_type = os.environ.get("ROOST_LAB_VIRT_TYPE", "auto")
    if virt_type not in ("auto", "kvm", "qemu"):
        raise LabError(f"ROOST_LAB_VIRT_TYPE is auto, kvm or qemu, not {virt_type!r}")
    site = plan(
        paths,
        kept.network.cidr,
        len(kept.nodes) if nodes is None else nodes,
        virt_type,
        copies=kept.copies if copies is None else copies,
        fencing=kept.fencing if fencing is None else fencing,
    )
    text = json.dumps(
        {
            "network": site.network.cidr,
            "nodes": len(site.nodes),
            "virt_type": site.virt_type,
            "copies": site.copies,
            "fencing": site.fencing,
        }
    )
    _file(paths).write_text(text + "\n")
    return site


def _file(paths: Paths) -> Path:
    return paths.state / "lab.json"
