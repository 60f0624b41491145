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
AGENT_PORT: Final = 8110
MAX_NODES: Final = 8


@dataclass(frozen=True)
class NodePlan:
    """A node's name and address."""

    name: str
    address: str


@dataclass(frozen=True)
class Site:
    """What this lab consists of."""

    paths: Paths
    network: Network
    nodes: tuple[NodePlan, ...]
    virt_type: str = "auto"

    def node(self, name: str) -> NodePlan:
        """The plan of one node; ``LabError`` where there is none of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise LabError(f"there is no node {name!r}; this lab has {names}")


def plan(paths: Paths, cidr: str, count: int, virt_type: str = "auto") -> Site:
    """A site with ``count`` nodes called node-a, node-b …"""
    if not 1 <= count <= MAX_NODES:
        raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {count}")
    network = Network(cidr)
    nodes = tuple(
        NodePlan(f"node-{letter}", network.node_address(number))
        for number, letter in enumerate(string.ascii_lowercase[:count])
    )
    return Site(paths, network, nodes, virt_type)


def load(paths: Paths) -> Site | None:
    """The plan of the lab that was last brought up, if any."""
    file = _file(paths)
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return plan(paths, kept["network"], kept["nodes"], kept["virt_type"])


def settle(paths: Paths, count: int | None) -> Site:
    """The plan to bring up: the kept one, with ``count`` nodes where that is given."""
    kept = load(paths)
    cidr = kept.network.cidr if kept else choose(used_networks())
    nodes = count or (len(kept.nodes) if kept else 2)
    virt_type = os.environ.get("ROOST_LAB_VIRT_TYPE", "auto")
    if virt_type not in ("auto", "kvm", "qemu"):
        raise LabError(f"ROOST_LAB_VIRT_TYPE is auto, kvm or qemu, not {virt_type!r}")
    site = plan(paths, cidr, nodes, virt_type)
    kept_text = json.dumps({"network": cidr, "nodes": nodes, "virt_type": virt_type})
    _file(paths).write_text(kept_text + "\n")
    return site


def _file(paths: Paths) -> Path:
    return paths.state / "lab.json"
