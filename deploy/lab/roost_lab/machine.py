"""A machine of managers: one copy of every central service, in a process tree of its own.

The lab has as many as there are copies. They share everything with the real machine but their
processes, so that all of one's copies can be made to die at the same instant.
"""

from __future__ import annotations

from collections.abc import Sequence

from roost_lab import supervisor
from roost_lab.paths import Paths
from roost_lab.power import Power
from roost_lab.process import find
from roost_lab.secrets import write_private
from roost_lab.supervisor import Program, Supervisor

PREFIX = "machine-"


class Machine:
    """One machine; numbers count from 1."""

    def __init__(self, paths: Paths, number: int, supply: Supervisor) -> None:
        self.number = number
        self.name = f"{PREFIX}{number}"
        self._paths = paths
        self._conf = paths.state / f"supervisor/{self.name}.conf"
        self._log = paths.log(self.name)
        self.init = Supervisor(paths.socket(self.name), self._log)
        self._power = Power(self.name, supply, self.init, self._log)

    def prepare(self, programs: Sequence[Program]) -> None:
        """Write what it runs."""
        self._conf.parent.mkdir(exist_ok=True)
        text = supervisor.render(
            programs,
            socket_file=self._paths.socket(self.name),
            pid_file=self._paths.sockets / f"{self.name}.pid",
            log=self._log,
            dies=False,
        )
        write_private(self._conf, text)

    def program(self) -> Program:
        """What the lab's supervisor runs: the machine's power supply, so to say.

        /proc stays the real machine's: a fence agent that a service starts looks there whether
        anything of a node is left.
        """
        return Program(
            self.name,
            (
                *(str(find("unshare")), "--pid", "--fork", "--kill-child=KILL"),
                *(str(self._paths.supervisord), "-n", "-c", str(self._conf)),
            ),
            self._paths.log(f"{self.name}-console"),
            restart=False,
            # unshare ignores SIGTERM while its child lives.
            stop_signal="KILL",
            priority=400,
        )

    def start(self) -> None:
        """Switch it on, or let what runs take over a new configuration; its services come up."""
        if not self._power.switch_on(self._paths.socket(self.name)):
            self._power.wait(lambda: True)
            self.init.update()
            return
        self._power.wait(lambda: True)

    def kill(self) -> None:
        """Cut its power: every copy on it dies at once."""
        self._power.switch_off()

    def shut_down(self) -> None:
        """Let its copies end in good order, then cut its power."""
        if not self._power.on:
            return
        if self.init.answers():
            self.init.stop_together(self.init.states())
        self.kill()

    def state(self) -> str:
        """``off``, ``booting`` or ``on``."""
        if not self._power.on:
            return "off"
        return "on" if self.init.answers() else "booting"

    def programs(self) -> dict[str, str]:
        """The states of its copies; none when it is off."""
        return self.init.states() if self.state() == "on" else {}


def numbers(programs: Sequence[str]) -> list[int]:
    """The numbers of the machines among the programs of the lab's supervisor."""
    found = [name.removeprefix(PREFIX) for name in programs if name.startswith(PREFIX)]
    return sorted(int(number) for number in found if number.isdecimal())
