"""The fence devices of the lab's nodes: one switch for all, that can be made to misbehave.

`fence-agents/fence_roost_lab` makes a fence agent of it. Needs the standard library alone: agents
run in the system's Python.
"""

from __future__ import annotations

import hmac
import signal
from enum import StrEnum
from pathlib import Path
from typing import Final

from roost_lab import site as sites
from roost_lab.errors import LabError
from roost_lab.paths import Paths
from roost_lab.power import Power
from roost_lab.supervisor import Supervisor

AGENT: Final = "fence_roost_lab"
LOGIN: Final = "lab"
PASSWORD: Final = "fence-password"
"""The name of the file with its password."""
ON, OFF = "on", "off"
_CLAIM: Final = ".claims-off"


class Behaviour(StrEnum):
    """How a device treats its node."""

    WORKS = "works"
    FAILS = "fails"
    """Whatever it is asked ends in an error."""
    HANGS = "hangs"
    """It takes every order and never answers."""
    LIES = "lies"
    """It says that it switched the node off, and that the node is off, and does nothing."""
    IDLES = "idles"
    """It says that it did what it was told, and does nothing; what it says of the node is true."""


class DeviceError(Exception):
    """The device does not do it; one sentence."""


class FenceDevice:
    """The switch, as who has logged on to it sees it."""

    def __init__(self, paths: Paths, behaviour: Behaviour | None = None) -> None:
        self._paths = paths
        self._forced = behaviour

    def admits(self, login: str, password: str) -> bool:
        """Whether these are its account and password."""
        file = self._paths.secrets / PASSWORD
        known = file.read_text().strip() if file.exists() else ""
        return login == LOGIN and bool(known) and hmac.compare_digest(known, password)

    def plugs(self) -> list[str]:
        """What is plugged in: the names of the nodes."""
        site = sites.load(self._paths)
        return [] if site is None else [node.name for node in site.nodes]

    def status(self, plug: str) -> str:
        """``on`` or ``off``, as far as this device tells the truth. Raises `DeviceError`."""
        behaviour = self._behave(plug)
        if behaviour is Behaviour.LIES and self._claim(plug).exists():
            return OFF
        try:
            return ON if self._power(plug).on else OFF
        except LabError as error:
            raise DeviceError(error.message) from error

    def switch(self, plug: str, to: str) -> None:
        """Switch a node ``on`` (it boots afterwards) or ``off`` (nothing of it is left)."""
        behaviour = self._behave(plug)
        if behaviour is Behaviour.LIES:
            self._claim(plug).touch() if to == OFF else self._claim(plug).unlink(missing_ok=True)
            return
        if behaviour is Behaviour.IDLES:
            return
        try:
            self._switch(plug, to)
        except LabError as error:
            raise DeviceError(error.message) from error

    def _switch(self, plug: str, to: str) -> None:
        power = self._power(plug)
        if to == OFF:
            power.switch_off()
            return
        site = sites.load(self._paths)
        if site is not None:
            site.network.add(plug, site.node(plug).address)
        power.switch_on(self._paths.socket(plug))

    def _behave(self, plug: str) -> Behaviour:
        if plug not in self.plugs():
            raise DeviceError(f"nothing is plugged in at {plug!r}")
        behaviour = self._forced or read(self._paths.fence, plug)
        if behaviour is Behaviour.FAILS:
            raise DeviceError("the device is broken")
        if behaviour is Behaviour.HANGS:
            while True:
                signal.pause()
        return behaviour

    def _claim(self, plug: str) -> Path:
        return self._paths.fence / f"{plug}{_CLAIM}"

    def _power(self, plug: str) -> Power:
        supply = Supervisor(self._paths.socket("lab"), self._paths.log("supervisor"))
        init = Supervisor(self._paths.socket(plug), self._paths.log(f"{plug}-init"))
        return Power(plug, supply, init, self._paths.log(f"{plug}-init"))


def read(directory: Path, node: str) -> Behaviour:
    """How a node's device behaves."""
    file = directory / node
    return Behaviour(file.read_text().strip()) if file.exists() else Behaviour.WORKS


def write(directory: Path, node: str, behaviour: Behaviour) -> None:
    """Make a node's device behave so from now on."""
    (directory / f"{node}{_CLAIM}").unlink(missing_ok=True)
    (directory / node).write_text(f"{behaviour}\n")


def collect_agents(paths: Paths) -> None:
    """Links to all fence agents of this machine in one directory, and to the lab's own."""
    for old in paths.fence_agents.iterdir():
        old.unlink()
    own = paths.repository / "deploy/lab/fence-agents" / AGENT
    for agent in (own, *Path("/usr/sbin").glob("fence_*")):
        (paths.fence_agents / agent.name).symlink_to(agent)


def make_honest(directory: Path) -> None:
    """All devices work again."""
    for file in directory.iterdir():
        file.unlink()
