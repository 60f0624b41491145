"""The lab's fence agent: ClusterLabs' protocol, a password, and devices that misbehave."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.conftest import ROOT
from tests.needs import lacking

from roost_lab import fence_device, site
from roost_lab.errors import LabError
from roost_lab.fence_device import Behaviour, DeviceError, FenceDevice
from roost_lab.paths import Paths
from roost_lab.secrets import Secrets

LIBRARY = Path("/usr/share/fence/fencing.py")


class FakePower:
    """A node's power supply that remembers."""

    def __init__(self) -> None:
        self.on = True
        self.broken = False

    def switch_off(self) -> None:
        if self.broken:
            raise LabError("it does not die")
        self.on = False

    def switch_on(self, _socket: Path) -> bool:
        self.on = True
        return True


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    paths = Paths(tmp_path)
    paths.make()
    monkeypatch.setattr(site, "used_networks", list)
    monkeypatch.setattr("roost_lab.network.Network.add", lambda *_: None)
    site.settle(paths)
    return paths


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> FakePower:
    power = FakePower()
    monkeypatch.setattr(FenceDevice, "_power", lambda *_: power)
    return power


def test_a_device_switches_off_and_on(paths: Paths, power: FakePower) -> None:
    device = FenceDevice(paths)
    assert device.plugs() == ["node-a", "node-b"]
    assert device.status("node-a") == "on"
    device.switch("node-a", "off")
    assert (power.on, device.status("node-a")) == (False, "off")
    device.switch("node-a", "on")
    assert (power.on, device.status("node-a")) == (True, "on")


def test_a_node_that_does_not_die_is_no_success(paths: Paths, power: FakePower) -> None:
    power.broken = True
    with pytest.raises(DeviceError, match="does not die"):
        FenceDevice(paths).switch("node-a", "off")


def test_an_unknown_plug_is_refused(paths: Paths, power: FakePower) -> None:
    with pytest.raises(DeviceError, match="node-z"):
        FenceDevice(paths).status("node-z")


def test_a_liar_says_off_after_it_was_told_so(paths: Paths, power: FakePower) -> None:
    fence_device.write(paths.fence, "node-a", Behaviour.LIES)
    assert FenceDevice(paths).status("node-a") == "on"
    FenceDevice(paths).switch("node-a", "off")
    assert (power.on, FenceDevice(paths).status("node-a")) == (True, "off")
    FenceDevice(paths).switch("node-a", "on")
    assert FenceDevice(paths).status("node-a") == "on"


def test_a_liar_that_is_replaced_is_forgotten(paths: Paths, power: FakePower) -> None:
    fence_device.write(paths.fence, "node-a", Behaviour.LIES)
    FenceDevice(paths).switch("node-a", "off")
    fence_device.write(paths.fence, "node-a", Behaviour.WORKS)
    fence_device.write(paths.fence, "node-a", Behaviour.LIES)
    assert FenceDevice(paths).status("node-a") == "on"
    FenceDevice(paths).switch("node-a", "off")
    fence_device.make_honest(paths.fence)
    assert fence_device.read(paths.fence, "node-a") is Behaviour.WORKS
    assert not list(paths.fence.iterdir())


def test_an_idle_device_does_nothing_and_says_what_is(paths: Paths, power: FakePower) -> None:
    device = FenceDevice(paths, Behaviour.IDLES)
    device.switch("node-a", "off")
    assert (power.on, device.status("node-a")) == (True, "on")


def test_a_broken_device_fails_whatever_it_is_asked(paths: Paths, power: FakePower) -> None:
    fence_device.write(paths.fence, "node-a", Behaviour.FAILS)
    device = FenceDevice(paths)
    for call in (lambda: device.status("node-a"), lambda: device.switch("node-a", "off")):
        with pytest.raises(DeviceError, match="broken"):
            call()
    assert device.status("node-b") == "on"
    # What the device is configured with wins: two devices of one node may behave differently.
    assert FenceDevice(paths, Behaviour.WORKS).status("node-a") == "on"


def test_a_password_opens_it(paths: Paths) -> None:
    device = FenceDevice(paths)
    assert not device.admits("lab", "")
    password = Secrets(paths.secrets).password(fence_device.PASSWORD)
    assert device.admits("lab", password)
    assert not device.admits("lab", password + "x")
    assert not device.admits("root", password)


def test_all_agents_of_the_machine_are_in_one_place(paths: Paths) -> None:
    fence_device.collect_agents(paths)
    fence_device.collect_agents(paths)
    own = paths.fence_agents / fence_device.AGENT
    assert own.readlink() == paths.repository / "deploy/lab/fence-agents" / fence_device.AGENT
    there = {agent.name for agent in Path("/usr/sbin").glob("fence_*")}
    assert {link.name for link in paths.fence_agents.iterdir()} == there | {fence_device.AGENT}


# --- the protocol ---------------------------------------------------------------------------------


@pytest.fixture
def site_of_its_own(paths: Paths) -> Paths:
    """A copy of the agent that belongs to another, empty site."""
    if not LIBRARY.exists():
        lacking("fence-agents")
    lab = paths.repository / "deploy/lab"
    for part in ("roost_lab", "fence-agents"):
        shutil.copytree(ROOT / "deploy/lab" / part, lab / part)
    return paths


def asked(paths: Paths, *arguments: str, **options: Any) -> tuple[int, str]:
    """The exit code and what was printed; ``options`` go to standard input as pacemaker does."""
    agent = paths.repository / "deploy/lab/fence-agents" / fence_device.AGENT
    done = subprocess.run(
        [agent, *arguments],
        input="".join(f"{name}={value}\n" for name, value in options.items()),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    return done.returncode, done.stdout + done.stderr


def test_metadata_says_what_it_takes(site_of_its_own: Paths) -> None:
    code, text = asked(site_of_its_own, action="metadata")
    assert code == 0
    document = ElementTree.fromstring(text)
    names = {parameter.get("name") for parameter in document.iter("parameter")}
    assert {"login", "password", "plug", "behaviour"} <= names
    actions = {action.get("name") for action in document.iter("action")}
    assert {"on", "off", "reboot", "status", "list", "monitor", "metadata"} <= actions


def test_status_of_a_node_of_a_lab_that_is_down(site_of_its_own: Paths) -> None:
    password = Secrets(site_of_its_own.secrets).password(fence_device.PASSWORD)
    account = {"login": "lab", "password": password}
    code, text = asked(site_of_its_own, action="status", plug="node-a", **account)
    assert code == 1, "a supervisor that does not answer is no node that is off"
    assert "does not answer" in text
    code, text = asked(site_of_its_own, action="status", plug="node-z", **account)
    assert (code, "node-z" in text) == (1, True)


def test_a_wrong_password_is_refused(site_of_its_own: Paths) -> None:
    Secrets(site_of_its_own.secrets).password(fence_device.PASSWORD)
    code, text = asked(site_of_its_own, action="off", plug="node-a", login="lab", password="no")
    assert code == 1
    assert "Unable to connect/login" in text


def test_the_liar_by_the_protocol(site_of_its_own: Paths) -> None:
    password = Secrets(site_of_its_own.secrets).password(fence_device.PASSWORD)
    fence_device.write(site_of_its_own.fence, "node-a", Behaviour.LIES)
    (site_of_its_own.fence / "node-a.claims-off").touch()
    login = ("-l", "lab", "-p", password, "-n", "node-a")
    assert asked(site_of_its_own, "-o", "status", *login)[0] == 2
    assert asked(site_of_its_own, "-o", "off", *login)[0] == 0
