"""A libvirtd of the tests' own: private directories, its own process tree, software emulation.

It lives in mount and PID namespaces, whose init is a shell that starts and stops libvirtd on
command: QEMU goes on while libvirtd is away, and everything ends with the init. Only the socket's
directory is shared with the tests.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from tests.conftest import ROOT
from tests.polling import wait_until

_PRIVATE: Final = ("etc", "lib", "log", "cache")
# bash reaps what is re-parented to it; without that, a QEMU that ended would look alive.
_INIT: Final = """
set -e
hostname "$NAME"
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount --bind "$BASE/etc" /etc/libvirt
mount --bind "$BASE/lib" /var/lib/libvirt
mount --bind "$BASE/log" /var/log/libvirt
mount --bind "$BASE/cache" /var/cache/libvirt
set +e
while read -r command; do
  case "$command" in
    start) rm -f "$BASE/sock/"*
      "$BEFORE" libvirtd $LISTEN -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid & ;;
    stop) kill "$!" ;;
    kill) kill -9 "$!" ;;
  esac
done
"""
_DISPLAYS: Final = 20
"""Ports that one libvirtd has for its guests' screens."""
_QEMU_CONF: Final = """
security_driver = "none"
user = "root"
group = "root"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
spice_tls = 1
spice_tls_x509_cert_dir = "{base}/spice"
remote_display_port_min = {first}
remote_display_port_max = {last}
"""
_LIBVIRTD_CONF: Final = """
unix_sock_dir = "{base}/sock"
auth_unix_rw = "none"
host_uuid = "{uuid}"
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
listen_addr = "{address}"
tcp_port = "{port}"
"""


class PrivateLibvirtd:
    """Needs root and a short path: a Unix socket's has at most 107 characters.

    With a ``port`` it is reached by others over TCP, at ``address``; it calls itself ``name``.
    """

    def __init__(
        self, base: Path, *, name: str = "node-a", address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.name = name
        self.address = address
        self.base = base
        for folder in (*_PRIVATE, "sock", "spice"):
            (base / folder).mkdir(parents=True)
        self._claim = _claim_displays()
        before = self._claim.getsockname()[1]
        (base / "etc/qemu.conf").write_text(
            _QEMU_CONF.format(base=base, first=before + 1, last=before + _DISPLAYS)
        )
        (base / "etc/libvirtd.conf").write_text(
            _LIBVIRTD_CONF.format(base=base, uuid=uuid4(), address=address, port=port)
        )
        self._certificate()
        # Mounted before the namespace is made, so that it is the same one on both sides.
        self.small = base / "small"
        self.small.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=256k", "tmpfs")
        self._log = (base / "init.log").open("wb")
        self._init = subprocess.Popen(
            [
                *(
                    "unshare",
                    "--mount",
                    "--uts",
                    "--pid",
                    "--fork",
                    "--kill-child=KILL",
                    "--mount-proc",
                ),
                *("bash", "-c", _INIT),
            ],
            env={
                **os.environ,
                "BASE": str(base),
                "BEFORE": str(ROOT / "deploy/host/forget-unstarted"),
                "NAME": name,
                "LISTEN": "--listen" if port else "",
            },
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.base / "sock/libvirt-sock"

    @property
    def uri(self) -> str:
        """How the driver reaches it."""
        return f"qemu+unix:///system?socket={self.socket}"

    def start(self) -> None:
        """Returns when it answers."""
        self._tell("start")

        def answers() -> bool:
            assert self._init.poll() is None, self._said()
            return self._answers()

        wait_until(answers, lambda: f"libvirtd answers: {self._said()}", 30)

    def stop(self, *, by: str = "stop") -> None:
        """End libvirtd alone, by SIGTERM or, with ``kill``, by SIGKILL."""
        self._tell(by)
        wait_until(lambda: not self._answers(), "libvirtd ends", 30)

    def close(self) -> None:
        """End everything."""
        self._init.send_signal(signal.SIGKILL)
        self._init.wait(20)
        assert self._init.stdin is not None
        self._init.stdin.close()
        subprocess.run(["umount", self.small], check=True)
        self._log.close()
        self._claim.close()

    def disk(self, name: str) -> str:
        """An empty disk."""
        return self._create(name, size="64M")

    def overlay(self, name: str, template: str) -> str:
        """A disk as a desktop gets it: empty, on top of a template."""
        return self._create(name, "-b", template, "-F", "qcow2")

    def enlarge(self, size: str) -> None:
        """Give ``small``, a file system of 256 KiB, more room."""
        self._mount("-o", f"remount,size={size}")

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(self.small)], check=True)

    def _create(self, name: str, *options: str, size: str = "") -> str:
        path = self.base / f"{name}.qcow2"
        command = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path)]
        subprocess.run([*command, size] if size else command, check=True)
        return str(path)

    def press_power_button(self, domain: str) -> None:
        """ACPI's, as a person at a machine presses it."""
        subprocess.run(
            ["virsh", "-c", self.uri, "shutdown", domain, "--mode", "acpi"],
            capture_output=True,
            check=False,  # it may be off already
        )

    def kill_qemu(self, name: str) -> None:
        """SIGKILL to the one QEMU of a domain with this name."""
        wanted = f"guest={name},".encode()
        (pid,) = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and wanted in _command_line(entry)
        ]
        os.kill(pid, signal.SIGKILL)

    def interrupted(self, like: UUID, other: UUID, job: str, phase: str) -> None:
        """Leave what libvirtd leaves that dies in the middle of a ``job``: its status of a domain
        ``like`` another, without a process. To be called while libvirtd is away."""
        changes = (
            "s/<domstatus .*/<domstatus state='paused' reason='starting up' pid='0'>/",
            f"s|</vcpus>|&<job type='none' async='{job}' phase='{phase}' flags='0x0'/>|",
            f"s/{like}/{other}/",
            f"s/{like.hex[:12]}/{other.hex[:12]}/",
        )
        status = "/run/libvirt/qemu/roost-d-{}.xml"
        files = [status.format(uuid.hex[:12]) for uuid in (like, other)]
        inside = ("nsenter", "--mount", "--target", str(self._init.pid))
        script = ("sh", "-c", 'sed "$1" "$2" > "$3"', "sh", "; ".join(changes), *files)
        subprocess.run([*inside, *script], check=True)

    def everything_written(self) -> str:
        """All definitions and logs of libvirt and QEMU."""
        files = [
            file
            for name in ("etc", "log")
            for file in (self.base / name).rglob("*")
            if file.is_file()
        ]
        return "\n".join(file.read_text(errors="replace") for file in files)

    def _tell(self, command: str) -> None:
        assert self._init.stdin is not None
        self._init.stdin.write(f"{command}\n".encode())
        self._init.stdin.flush()

    def _said(self) -> str:
        return (self.base / "init.log").read_text()

    def _answers(self) -> bool:
        asked = subprocess.run(
            ["virsh", "-c", self.uri, "uri"], capture_output=True, check=False, timeout=20
        )
        return asked.returncode == 0

    def _certificate(self) -> None:
        """One that signs itself is its own authority."""
        spice = self.base / "spice"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", f"/O=Roost/CN={self.name}"),
                *("-keyout", spice / "server-key.pem", "-out", spice / "server-cert.pem"),
            ],
            check=True,
            capture_output=True,
        )
        (spice / "ca-cert.pem").write_bytes((spice / "server-cert.pem").read_bytes())


def _claim_displays() -> socket.socket:
    """Bound to the port before those of one libvirtd's displays.

    libvirtd looks for a free port and leaves it to QEMU to take it: two of them side by side would
    find the same one. Theirs begin at 5900 (qemu.conf, ``remote_display_port_min``), and end before
    those that the kernel gives to clients.
    """
    for port in range(5900, 32000, _DISPLAYS + 1):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            return claim
    raise AssertionError("no ports are left for displays")


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""  # it ended while we looked
