"""A KVM node: a process tree in namespaces of its own, with its own init, libvirtd and agent.

The lab's supervisor knows one program per node. It makes the namespaces and becomes the parent of
the node's init; when init dies the kernel kills everything in its PID namespace at once, which is
what losing power is. The lab does not start a dead node again by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

from roost_lab import ca, libvirt_conf, network, supervisor
from roost_lab.errors import LabError
from roost_lab.node_init import PRIVATE
from roost_lab.process import find, wait_for
from roost_lab.secrets import write_private
from roost_lab.site import NodePlan, Site
from roost_lab.supervisor import Program, Supervisor

LIBVIRTD = "libvirtd"
AGENT = "agent"


class Node:
    """One node of a site."""

    def __init__(self, site: Site, plan: NodePlan, power: Supervisor) -> None:
        self.name = plan.name
        self.address = plan.address
        self._site = site
        self._power = power
        self.directory = site.paths.nodes / plan.name
        self.spice_certs = self.directory / "spice"
        self._conf = self.directory / "init.conf"
        self._log = site.paths.log(f"{plan.name}-init")
        self.init = Supervisor(site.paths.socket(plan.name), self._log)

    @property
    def host_subject(self) -> str:
        """The subject of its SPICE certificate."""
        return ca.host_subject(self.name)

    @property
    def host_uuid(self) -> UUID:
        """Its identity for libvirt; made once."""
        file = self.directory / "host-uuid"
        if not file.exists():
            file.write_text(f"{uuid4()}\n")
        return UUID(file.read_text().strip())

    def prepare(self, authority: ca.Authority, agent: Mapping[str, str] | None) -> None:
        """Write what it needs to boot; ``agent`` is the host agent's environment, if it has one."""
        for path in (*PRIVATE, "spice"):
            (self.directory / path).mkdir(parents=True, exist_ok=True)
        etc = self.directory / "etc"
        (etc / "libvirt/libvirtd.conf").write_text(
            libvirt_conf.libvirtd(self.address, self.host_uuid)
        )
        (etc / "libvirt/qemu.conf").write_text(libvirt_conf.qemu(self.spice_certs))
        hosts = "".join(f"{node.address} {node.name}\n" for node in self._site.nodes)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        authority.issue(
            self.spice_certs / "server-cert.pem",
            self.spice_certs / "server-key.pem",
            self.name,
            self.address,
            self.name,
        )
        ca_pem = authority.certificate_file.read_bytes()
        (self.spice_certs / "ca-cert.pem").write_bytes(ca_pem)
        write_private(
            self._conf,
            supervisor.render(
                self._programs(agent),
                socket_file=self._site.paths.socket(self.name),
                pid_file=Path("/run/init.pid"),
                log=self._log,
                dies=False,
            ),
        )

    def _programs(self, agent: Mapping[str, str] | None) -> list[Program]:
        paths = self._site.paths
        programs = [
            Program(
                LIBVIRTD,
                (str(find(LIBVIRTD)), "--listen"),
                paths.log(f"{self.name}-{LIBVIRTD}"),
                autostart=True,
                # QEMU runs on while libvirtd is away.
                kill_group=False,
                priority=10,
            )
        ]
        if agent is not None:
            programs.append(
                Program(
                    AGENT,
                    (str(paths.python), "-m", "roost_host_agent"),
                    paths.log(f"{self.name}-{AGENT}"),
                    environment=agent,
                    autostart=True,
                    priority=20,
                )
            )
        return programs

    def program(self) -> Program:
        """What the lab's supervisor runs: the node's power supply, so to say."""
        paths = self._site.paths
        unshare = (str(find("unshare")), "--mount", "--uts", "--ipc", "--pid", "--fork")
        return Program(
            self.name,
            (
                *(str(find("ip")), "netns", "exec", network.namespace(self.name)),
                *(*unshare, "--kill-child=KILL", "--mount-proc"),
                *(str(paths.python), "-m", "roost_lab.node_init", self.name, str(self.directory)),
                *(str(paths.supervisord), str(self._conf)),
            ),
            paths.log(self.name),
            environment={"PYTHONPATH": str(Path(__file__).parents[1])},
            restart=False,
            # unshare ignores SIGTERM while its child lives.
            stop_signal="KILL",
            priority=300,
        )

    def start(self) -> None:
        """Boot it, where it is off, and wait until its libvirtd runs."""
        network_of = self._site.network
        network_of.add(self.name, self.address)
        if self._power.state(self.name) not in supervisor.ALIVE:
            self._site.paths.socket(self.name).unlink(missing_ok=True)
            self._power.start(self.name)
            self.wait()
            return
        self.wait()
        self.init.update()

    def wait(self, timeout_s: float = 60) -> None:
        """Wait until libvirtd runs on it."""
        wait_for(
            f"{self.name} boots",
            lambda: self.init.answers() and self.init.state(LIBVIRTD) == supervisor.RUNNING,
            timeout_s=timeout_s,
            log=self._log,
            gave_up=self._dead,
        )

    def _dead(self) -> str | None:
        state = self._power.state(self.name)
        return None if state in supervisor.ALIVE else f"it ended ({state.lower()})"

    def kill(self) -> None:
        """Cut its power: SIGKILL to every process on it; returns when none is left."""
        space = self._pid_namespace()
        self._power.kill(self.name)
        wait_for(
            f"{self.name} dies",
            lambda: self._power.state(self.name) not in supervisor.ALIVE and not _alive(space),
            timeout_s=20,
            log=self._log,
        )

    def shut_down(self) -> None:
        """Let its programs end in good order, then cut its power; desktops are not asked."""
        if self._power.state(self.name) not in supervisor.ALIVE:
            return
        if self.init.answers():
            self.init.stop(AGENT) if AGENT in self.init.states() else None
            self.init.stop(LIBVIRTD)
        self.kill()

    def state(self) -> str:
        """``off``, ``cut`` (runs without a network), ``booting`` or ``on``."""
        if self._power.state(self.name) not in supervisor.ALIVE:
            return "off"
        if network.is_cut(self.name):
            return "cut"
        return "on" if self.init.answers() else "booting"

    def programs(self) -> dict[str, str]:
        """The states of the node's programs; none when it is off."""
        return self.init.states() if self.state() != "off" and self.init.answers() else {}

    def enter(self) -> list[str]:
        """The words before a command that make it run on this node."""
        pid = self._power.pid(self.name)
        children = _children(pid) if pid is not None else []
        if not children:
            raise LabError(f"{self.name} is off")
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        return [str(find("nsenter")), "--target", str(children[0]), *spaces, "--"]

    def _pid_namespace(self) -> str | None:
        """The PID namespace of what the lab's supervisor keeps for this node."""
        pid = self._power.pid(self.name)
        if pid is None:
            return None
        try:
            return str(Path(f"/proc/{pid}/ns/pid_for_children").readlink())
        except OSError:
            return None  # it ended while we looked


def _children(pid: int) -> list[int]:
    """The processes a process has started (proc(5), /proc/PID/task/TID/children)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(space: str | None) -> bool:
    """Whether any process is left in a PID namespace."""
    if space is None:
        return False
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "ns/pid").readlink()) == space:
                return True
        except OSError:
            continue  # it ended while we looked
    return False
