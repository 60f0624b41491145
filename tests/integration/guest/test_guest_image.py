"""The guest image does what the lab and the end-to-end tests count on, on real QEMU."""

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.guest.machine import Machine
from tests.needs import require

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / ".roost/cache/guest"
PROGRAMS = ("qemu-system-x86_64", "qemu-img", "tesseract", "apt-get", "syslinux", "mformat")

Overlay = Callable[[], Path]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(*PROGRAMS)
    image = tmp_path_factory.mktemp("template") / "guest.qcow2"
    _build(image)
    return image


@pytest.fixture
def overlay(template: Path, tmp_path: Path) -> Overlay:
    """Makes a disk as a desktop gets it: empty, on top of the template."""

    def make() -> Path:
        path = tmp_path / f"overlay-{len(list(tmp_path.glob('overlay-*')))}.qcow2"
        backing = ("-b", str(template), "-F", "qcow2")
        argv = ("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path))
        subprocess.run(argv, check=True)
        return path

    return make


def _build(image: Path) -> str:
    argv = (str(REPOSITORY / "deploy/lab/guest/build"), str(image), "--cache", str(CACHE))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_build_takes_the_image_from_the_cache(template: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.qcow2"
    assert "from the cache" in _build(again)
    assert again.read_bytes() == template.read_bytes()
    assert again.stat().st_size < 40 * 1024 * 1024


def test_a_desktop_shows_who_it_is_and_what_its_disk_went_through(
    overlay: Overlay, tmp_path: Path
) -> None:
    disk = overlay()
    with Machine(disk, tmp_path / "first", name="sales-7", sku="office:12") as guest:
        guest.wait_for_serial("roost-guest: up sales-7 office:12")
        guest.wait_for_screen("ROOST DESKTOP", "host sales-7", "template office version 12")
        guest.wait_for_screen("disk clean", "sales-7>")
        guest.type("mark seen")
        guest.wait_for_serial("roost-guest: mark seen")
        guest.wait_for_screen("mark seen")
        guest.agent().send({"execute": "guest-shutdown"})
        guest.wait_for_end()
    # The same disk remembers; the ACPI power button and little memory this time.
    with Machine(disk, tmp_path / "second", name="sales-7", agent=False, memory_mib=192) as guest:
        guest.wait_for_screen("disk used, boots 2", "mark seen", "sales-7>")
        guest.qmp("system_powerdown")
        guest.wait_for_serial("roost-guest: down sales-7")
        guest.wait_for_end()
    # A disk made anew from the template has forgotten it all.
    with Machine(overlay(), tmp_path / "third", video="virtio-vga") as guest:
        assert "mark" not in guest.wait_for_screen("disk clean", "host demo-1")


def test_the_guest_agent_answers(overlay: Overlay, tmp_path: Path) -> None:
    with Machine(overlay(), tmp_path / "run", video="VGA") as guest:
        agent = guest.agent()
        assert agent.ask("guest-get-host-name") == {"host-name": "demo-1"}
        system = agent.ask("guest-get-osinfo")
        assert isinstance(system, dict)
        assert system["name"] == "Roost demo guest"
        assert agent.ask("guest-get-users") == []
        applications = _read_file(agent.ask, "/var/lib/roost/applications")
        names = [line.split()[0] for line in applications.splitlines()]
        assert {"busybox-static", "qemu-guest-agent"} <= set(names)
        guest.wait_for_address(agent)
        # For a backup: the data partition's file system can be held still.
        assert agent.ask("guest-fsfreeze-freeze") == 1
        assert agent.ask("guest-fsfreeze-thaw") == 1
        agent.send({"execute": "guest-shutdown", "arguments": {"mode": "reboot"}})
        guest.wait_for_event("RESET")
        guest.wait_for_screen("disk used, boots 2")


def _read_file(ask: Callable[..., object], path: str) -> str:
    handle = ask("guest-file-open", path=path)
    answer = ask("guest-file-read", handle=handle, count=65536)
    ask("guest-file-close", handle=handle)
    assert isinstance(answer, dict)
    return base64.b64decode(answer["buf-b64"]).decode()
