"""Fixtures on the lab with its real desktops."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.site import (
    ROOT,
    Api,
    Lab,
    NewPool,
    NewScreen,
    NewUser,
    Screen,
    pool_for_a_while,
    users_for_a_while,
)
from tests.needs import require, require_root

from roost_lab import network, stray
from roost_lab.paths import Paths

LAB_ENV = ROOT / ".roost" / "lab.env"
PROGRAMS = ("Xvfb", "remote-viewer", "tesseract", "import", "xdotool", "virsh")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the lab; what breaks parts of it comes last."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def _shape() -> tuple[str, ...]:
    """What makes the lab again what it is now."""
    found = json.loads((LAB_ENV.parent / "lab.json").read_text())
    fencing = "--fencing" if found["fencing"] else "--no-fencing"
    return ("--copies", str(found["copies"]), "--nodes", str(found["nodes"]), fencing)


def _left_behind() -> list[str]:
    """What there is of the lab on this machine; after ``down`` that must be nothing."""
    paths = Paths.here()
    found = [f"namespace or link of {name}" for name in network.leftovers()]
    if network.link_exists(network.BRIDGE):
        found.append(f"bridge {network.BRIDGE}")
    found += [f"process {pid}, {name}" for pid, name in stray.processes(paths).items()]
    # In the eyes of every process: QEMU carries no mark of the lab, but lives among its mounts.
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"/{paths.state.name}/" in (process / "mountinfo").read_text():
                name = (process / "comm").read_text().strip()
                found.append(f"mount seen by {process.name}, {name}")
        except OSError:
            continue  # it ended while we looked
    return found


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab: the one that is up, or one for this run."""
    require(*PROGRAMS)
    require_root("to make namespaces and start virtual machines")
    was_up = LAB_ENV.exists()
    before = _shape() if was_up else ()
    # Two copies of everything and three hosts: that a copy or a host is away is no special case.
    options = ("--copies", "2", "--nodes", "3", "--fencing")
    subprocess.run([ROOT / "deploy" / "lab" / "up", *options], check=True, stdin=subprocess.DEVNULL)
    lines = LAB_ENV.read_text().splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    yield Lab({name: value.strip("'\"") for name, value in pairs})
    if was_up:
        subprocess.run([ROOT / "deploy" / "lab" / "up", *before], check=True)
    else:
        subprocess.run([ROOT / "deploy" / "lab" / "down"], check=True)
        assert _left_behind() == []


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Iterator[Api]:
    """The administrator."""
    variables = lab.variables
    api = Api(lab.url, variables["ROOST_ADMIN_USER"], variables["ROOST_ADMIN_PASSWORD"])
    yield api
    api.http.close()


@pytest.fixture
def new_user(lab: Lab, admin: Api) -> Iterator[NewUser]:
    """Makes users with a password of their own and no rights yet; they go with the test."""
    with users_for_a_while(admin, partial(Api, lab.url)) as make:
        yield make


@pytest.fixture
def new_pool(lab: Lab, admin: Api) -> NewPool:
    """Makes pools of small desktops for given users, and takes them away again."""

    return partial(pool_for_a_while, lab, admin)


@pytest.fixture
def new_screen(tmp_path: Path) -> Iterator[NewScreen]:
    """Makes screens; each is a place of work of its own."""
    made: list[Screen] = []

    def make() -> Screen:
        made.append(Screen(tmp_path))
        return made[-1]

    yield make
    for screen in made:
        screen.close()
