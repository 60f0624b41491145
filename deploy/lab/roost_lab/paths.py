"""Where everything of the lab is: all of it under ``.roost`` in the repository."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from roost_lab.errors import LabError

_SOCKET_LIMIT = 107
"""unix(7): sun_path has 108 bytes with its terminating zero."""


@dataclass(frozen=True)
class Paths:
    """The lab's directories and files, from the repository's root."""

    repository: Path

    @classmethod
    def here(cls) -> Paths:
        """The checkout this module belongs to."""
        return cls(Path(__file__).resolve().parents[3])

    @property
    def state(self) -> Path:
        """All state; everything below goes with it."""
        return self.repository / ".roost"

    @property
    def cache(self) -> Path:
        """What is slow to make and always the same: the guest image and its parts."""
        return self.state / "cache"

    @property
    def secrets(self) -> Path:
        """Passwords and keys, one a file."""
        return self.state / "secrets"

    @property
    def certs(self) -> Path:
        """The lab's certification authority and the front's certificate."""
        return self.state / "certs"

    @property
    def logs(self) -> Path:
        """A log per program."""
        return self.state / "log"

    @property
    def sockets(self) -> Path:
        """Sockets and pid files."""
        return self.state / "run"

    @property
    def storage(self) -> Path:
        """Storage domains, a directory each: the site's shared file system."""
        return self.state / "storage"

    @property
    def ha(self) -> Path:
        """The directory in which the nodes watch each other."""
        return self.state / "ha"

    @property
    def fence(self) -> Path:
        """How the nodes' fence devices behave."""
        return self.state / "fence"

    @property
    def fence_agents(self) -> Path:
        """Every fence agent there is on this machine, the lab's own among them."""
        return self.state / "fence-agents"

    @property
    def imports(self) -> Path:
        """From here imaging takes images by path."""
        return self.state / "import"

    @property
    def nodes(self) -> Path:
        """The nodes' own file systems, as far as they differ from the machine's."""
        return self.state / "nodes"

    @property
    def lab_env(self) -> Path:
        """Addresses and accounts, for people and tests."""
        return self.state / "lab.env"

    @property
    def python(self) -> Path:
        """The interpreter everything of Roost runs with."""
        return Path(sys.executable)

    @property
    def supervisord(self) -> Path:
        """The process supervisor, from the same environment."""
        return Path(sys.executable).parent / "supervisord"

    def log(self, program: str) -> Path:
        """The log of one program."""
        return self.logs / f"{program}.log"

    def socket(self, name: str) -> Path:
        """A Unix socket; ``LabError`` where the checkout lies too deep for one."""
        path = self.sockets / f"{name}.sock"
        # supervisord binds a temporary name first: the socket's, a dot and its pid.
        if len(str(path).encode()) + len(".4194304") > _SOCKET_LIMIT:
            raise LabError(f"{path} is too long for a Unix socket: check out nearer to the root")
        return path

    def make(self) -> None:
        """Make the directories that several parts share."""
        for path in (self.state, self.cache, self.logs, self.sockets, self.imports):
            path.mkdir(parents=True, exist_ok=True)
        for path in (self.storage, self.ha, self.fence, self.fence_agents):
            path.mkdir(parents=True, exist_ok=True)
        for path in (self.secrets, self.certs, self.nodes):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
