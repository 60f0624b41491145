"""How a node boots: makes this process's namespaces look like a machine, then becomes its init.

Run by the lab's supervisor inside new network, mount, UTS and PID namespaces:
``python -m roost_lab.node_init NAME DIRECTORY SHARED SUPERVISORD CONFIGURATION``.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from roost_lab.process import run

PRIVATE = ("etc/libvirt", "var/lib/libvirt", "var/log/libvirt", "var/cache/libvirt")
"""What every node has of its own, below its directory; the rest of the file system is shared."""
HA = "/run/roost/ha"
"""Where a node sees the directory in which all nodes watch each other."""
CUT = ("-t", "tmpfs", "-o", "ro,mode=0555,size=4k", "cut")
"""What lies over it while the node is cut off from it: nothing, and nothing can be put there."""
STORAGE_CUT = "storage-cut"
"""A file in a node's directory: it is cut off from what nodes share, even after a boot."""


def boot(name: str, directory: Path, shared: Path) -> None:
    """Give this node its name, its own directories and an empty /run, as after power-on."""
    socket.sethostname(name)
    for path in PRIVATE:
        target = Path("/", path)
        target.mkdir(parents=True, exist_ok=True)
        run(["mount", "--bind", directory / path, target])
    run(["mount", "--bind", directory / "etc/hosts", "/etc/hosts"])
    # libvirt keeps what runs in /run; a machine that was off has nothing there.
    run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=64m", f"run-{name}", "/run"])
    Path("/run/lock").mkdir()  # libvirt locks a guest's serial line there: virsh console
    Path(HA).mkdir(parents=True)
    run(["mount", "--bind", shared, HA])
    if (directory / STORAGE_CUT).exists():
        run(["mount", *CUT, HA])


def main() -> None:
    """Boot, and become the supervisor of this node's programs."""
    name, directory, shared, supervisord, configuration = sys.argv[1:]
    boot(name, Path(directory), Path(shared))
    os.execv(supervisord, [supervisord, "-n", "-c", configuration])


if __name__ == "__main__":
    main()
