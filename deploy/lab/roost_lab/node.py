"""A KVM node: a process tree in namespaces of its own, with its own init, libvirtd and agent.

The lab's supervisor knows one program per node, which makes the namespaces and becomes the parent
of the node's init (:mod:`roost_lab.power`).

All nodes see the directory in which they watch each other, at `node_init.HA`. A node that is cut
off has an empty one there that cannot be written, as if its storage network were cut, too; its
desktops' images it goes on reaching, which is the harder case: nothing but Roost keeps two copies
of a desktop apart then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

from roost_lab import ca, code, libvirt_conf, network, supervisor
from roost_lab.node_init import CUT, HA, PRIVATE, STORAGE_CUT
from roost_lab.power import Power
from roost_lab.process import find, run
from roost_lab.secrets import write_private
from roost_lab.site import NodePlan, Site
from roost_lab.supervisor import Program, Supervisor

LIBVIRTD = "libvirtd"
AGENT = "agent"
GUARD = "guard"
"""Keeps the node's lease when the agent does not."""


class Node:
    """One node of a site."""

    def __init__(self, site: Site, plan: NodePlan, power: Supervisor) -> None:
        self.name = plan.name
        self.address = plan.address
        self._site = site
        self.directory = site.paths.nodes / plan.name
        self.spice_certs = self.directory / "spice"
        self._conf = self.directory / "init.conf"
        self._log = site.paths.log(f"{plan.name}-init")
        self.init = Supervisor(site.paths.socket(plan.name), self._log)
        self._power = Power(plan.name, power, self.init, self._log)

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
        hook = etc / "libvirt/hooks/qemu"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(libvirt_conf.GUESTS_LAST)
        hook.chmod(0o755)
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
                (
                    str(paths.repository / "deploy/host/forget-unstarted"),
                    *(str(find(LIBVIRTD)), "--listen"),
                ),
                paths.log(f"{self.name}-{LIBVIRTD}"),
                autostart=True,
                # QEMU runs on while libvirtd is away.
                kill_group=False,
                priority=10,
            )
        ]
        if agent is not None:
            current = {code.STAMP: code.stamp(paths.repository, "host-agent")}
            programs.append(
                Program(
                    AGENT,
                    (str(paths.python), "-m", "roost_host_agent"),
                    paths.log(f"{self.name}-{AGENT}"),
                    environment={**agent, **current},
                    autostart=True,
                    priority=20,
                )
            )
            programs.append(
                Program(
                    GUARD,
                    (str(paths.python), "-m", "roost_host_agent.guard"),
                    paths.log(f"{self.name}-{GUARD}"),
                    environment=current,
                    autostart=True,
                    priority=15,
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
                *(str(paths.ha), str(paths.supervisord), str(self._conf)),
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
        self._site.network.add(self.name, self.address)
        network.switch(self.name, "up")
        booted = self._power.switch_on(self._site.paths.socket(self.name))
        self.wait()
        if not booted:
            for program in self.init.states():
                self.init.signal(program, "CONT")
            self.init.update()

    def wait(self, timeout_s: float = 60) -> None:
        """Wait until libvirtd runs on it."""
        self._power.wait(lambda: self.init.state(LIBVIRTD) == supervisor.RUNNING, timeout_s)

    def kill(self) -> None:
        """Cut its power: SIGKILL to every process on it; returns when none is left."""
        self._power.switch_off()
        network.switch(self.name, "down")

    def shut_down(self) -> None:
        """Let its programs end in good order, then cut its power; desktops are not asked."""
        if not self._power.on:
            return
        if self.init.answers():
            programs = self.init.states()
            for program in (GUARD, AGENT, LIBVIRTD):
                if program in programs:
                    self.init.signal(program, "CONT")
                    self.init.stop(program)
        self.kill()

    # --- its links ----------------------------------------------------------------------------

    def cut(self, *, storage: bool = True) -> None:
        """Partition it; with ``storage``, from the directory that nodes share, too."""
        network.cut(self.name)
        if storage:
            (self.directory / STORAGE_CUT).touch()
            if self._power.on and not self._storage_is_cut():
                run([*self.enter(), "mount", *CUT, HA])

    def heal(self) -> None:
        """Undo `cut`."""
        network.heal(self.name)
        (self.directory / STORAGE_CUT).unlink(missing_ok=True)
        if self._power.on and self._storage_is_cut():
            run([*self.enter(), "umount", HA])

    def _storage_is_cut(self) -> bool:
        # proc(5), mountinfo: field 5 is the mount point, the last but one the source.
        table = Path(f"/proc/{self._power.init_pid()}/mountinfo").read_text()
        mounts = [line.split() for line in table.splitlines()]
        over = [fields[-2] for fields in mounts if fields[4] == HA]
        return bool(over) and over[-1] == CUT[-1]

    # --- what it looks like -------------------------------------------------------------------

    def state(self) -> str:
        """``off``, ``cut`` (runs without a network), ``booting`` or ``on``."""
        if not self._power.on:
            return "off"
        if network.is_cut(self.name):
            return "cut"
        return "on" if self.init.answers() else "booting"

    def programs(self) -> dict[str, str]:
        """The states of the node's programs; none when it is off."""
        return self.init.states() if self.state() != "off" and self.init.answers() else {}

    def enter(self) -> list[str]:
        """The words before a command that make it run on this node."""
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        target = str(self._power.init_pid())
        return [str(find("nsenter")), "--target", target, *spaces, "--"]
