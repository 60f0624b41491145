"""A pool whose hosts are made to fail: where its desktops are, and whether all is whole again."""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.e2e.site import ROOT, Api, Lab, wait_until

FAILED_S = 45.0
"""A dead host's guests are to run elsewhere by then: seconds to notice and fence, and a boot of
several guests at once under emulation."""
WHOLE_S = 120.0


@dataclass
class Stand:
    """Desktops of users, spread over the nodes of the lab."""

    lab: Lab
    admin: Api
    pool: str
    users: list[Api]

    # --- looking ------------------------------------------------------------------------------

    def desktops(self) -> dict[str, dict[str, Any]]:
        """The pool's desktops by id."""
        return {one["id"]: one for one in self.admin.items("/desktops", pool=self.pool)}

    def runs(self) -> dict[str, str]:
        """Which run of its guest each desktop is in."""
        return {key: one["boot_id"] for key, one in self.desktops().items()}

    def on(self, node: str) -> set[str]:
        """Ids of the pool's desktops that inventory has on a node."""
        return {key for key, one in self.desktops().items() if one["host"] == node}

    def busiest(self) -> str:
        """The node with most of the pool's desktops."""
        return Counter(str(one["host"]) for one in self.desktops().values()).most_common(1)[0][0]

    def domains(self) -> Counter[str]:
        """How often each desktop runs, by what the libvirt of every living node says."""
        running: Counter[str] = Counter()
        for node in self.lab.nodes:
            running.update(self.domains_on(node))
        return running

    def domains_on(self, node: str) -> set[str]:
        """Ids of the desktops that run on a node; none where it is off."""
        try:
            return set(self.lab.on_node(node, "virsh", "list", "--uuid").split())
        except subprocess.CalledProcessError:
            return set()

    def each_runs_once(self) -> bool:
        """Whether every desktop is said to run, and does, in one place."""
        found, domains = self.desktops(), self.domains()
        said = all(one["state"] == "running" for one in found.values())
        return said and all(domains[key] == 1 for key in found)

    def none_runs_twice(self) -> bool:
        """What must hold at every moment."""
        return all(count <= 1 for count in self.domains().values())

    # --- incidents ----------------------------------------------------------------------------

    def incidents(self, node: str) -> list[dict[str, Any]]:
        """Of one node, the newest first."""
        return [one for one in self.admin.items("/ha/incidents") if one["node"] == node]

    def incident(self, node: str, after: int, **wanted: Any) -> dict[str, Any]:
        """The incident of a node that came after ``after`` others, once it is as wanted."""

        def found() -> dict[str, Any] | None:
            all_of_it = self.incidents(node)
            if len(all_of_it) <= after:
                return None
            newest = all_of_it[0]
            if any(newest[key] != value for key, value in wanted.items()):
                return None
            whole: dict[str, Any] = self.admin.get(f"/ha/incidents/{newest['id']}")
            return whole

        return wait_until(found, f"an incident of {node} with {wanted}", WHOLE_S)

    # --- acting -------------------------------------------------------------------------------

    def mend(self) -> None:
        """Every node on and on the network, every device works; wait until all is whole."""
        for node in self.lab.nodes:
            self.lab.fence_device(node, "works")
            with suppress(subprocess.CalledProcessError):
                self.lab.node(node, "heal")
            self.lab.node(node, "start")
        wait_until(self.is_whole, "every node is up and every desktop runs once", WHOLE_S)

    def is_whole(self) -> bool:
        """Nothing is left of what happened, nothing to come, and each desktop runs once."""
        hosts = {one["name"]: one["state"] for one in self.admin.items("/hosts")}
        up = all(hosts.get(node) == "up" for node in self.lab.nodes)
        quiet = not self.admin.items("/ha/incidents", open="true")
        return up and quiet and self.each_runs_once()


def lab_up(*options: str) -> None:
    """Change what the lab is."""
    subprocess.run(
        [ROOT / "deploy" / "lab" / "up", *options],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
