"""The small pure parts: libvirt's files, secrets, tables, what a processor says."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost_lab import code, libvirt_conf, virtualisation
from roost_lab.process import Daemon
from roost_lab.secrets import Secrets
from roost_lab.status import table


def test_libvirt_listens_on_the_nodes_own_address_alone() -> None:
    host = uuid.uuid4()
    text = libvirt_conf.libvirtd("10.77.0.11", host)
    assert 'listen_addr = "10.77.0.11"' in text
    assert f'host_uuid = "{host}"' in text
    assert "listen_tls = 0" in text


def test_qemu_gets_spice_over_tls() -> None:
    text = libvirt_conf.qemu(Path("/n/spice"))
    assert "spice_tls = 1" in text
    assert 'spice_tls_x509_cert_dir = "/n/spice"' in text
    assert 'stdio_handler = "file"' in text


@pytest.mark.parametrize(
    ("text", "hardware"),
    [
        ("flags\t\t: fpu vmx sse\n", True),
        ("flags\t\t: fpu svm\n", True),
        ("flags\t\t: fpu svme vmxoff\nvmx flags\t: vnmi\n", False),
        ("", False),
    ],
)
def test_the_processors_flags_decide(text: str, hardware: bool) -> None:
    assert virtualisation.has_flags(text) is hardware


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    first = secrets.password("a")
    assert Secrets(tmp_path).password("a") == first != secrets.password("b")
    assert len(first) >= 20
    for path in (secrets.password_file("a"), secrets.signing_key_file()):
        assert path.stat().st_mode & 0o777 == 0o600
    key = secrets.signing_key_file().read_text()
    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    assert Secrets(tmp_path).signing_key_file().read_text() == key


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "B"), [("long", "x"), ("y", "")]) == "A     B\nlong  x\ny"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon("sleeper", tmp_path / "pid", tmp_path / "log")
    yield daemon
    daemon.stop()


def test_a_daemon_is_started_once_and_known_by_others(daemon: Daemon, tmp_path: Path) -> None:
    assert daemon.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
    assert not daemon.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
    other = Daemon("sleeper", tmp_path / "pid", tmp_path / "log")
    assert other.pid == daemon.pid is not None


def test_a_pid_that_is_somebody_elses_by_now_is_not_the_daemon(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
    (tmp_path / "other").write_text(f"{daemon.pid} 1\n")
    assert Daemon("sleeper", tmp_path / "other", tmp_path / "log").pid is None


def test_a_killed_daemon_can_be_started_again(daemon: Daemon) -> None:
    daemon.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
    first = daemon.pid
    daemon.kill()
    assert daemon.pid is None
    assert daemon.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
    assert daemon.pid != first


def test_a_change_of_code_restarts_whom_it_concerns(tmp_path: Path) -> None:
    for part in ("libs/common", "services/broker", "services/imaging"):
        (tmp_path / part / "src").mkdir(parents=True)

    def stamps() -> tuple[str, str]:
        return code.stamp(tmp_path, "broker"), code.stamp(tmp_path, "imaging")

    before = stamps()
    (tmp_path / "services/broker/src/x.py").write_text("x = 1")
    after = stamps()
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    (tmp_path / "libs/common/src/y.py").write_text("y = 1")
    assert not set(stamps()) & set(after)
