"""libvirt's configuration on a node. Pure."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID


def libvirtd(address: str, host_uuid: UUID) -> str:
    """libvirtd.conf: TCP on the node's own address, for live migration between nodes."""
    return f"""\
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
# Nodes on one machine have the same DMI UUID, and libvirt refuses to migrate "to itself".
host_uuid = "{host_uuid}"
"""


def qemu(spice_certs: Path) -> str:
    """qemu.conf: QEMU as root without confinement, SPICE over TLS on all of the node."""
    return f"""\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
# No virtlogd: what QEMU says goes straight into its log file.
stdio_handler = "file"
spice_listen = "0.0.0.0"
spice_tls = 1
spice_tls_x509_cert_dir = "{spice_certs}"
"""


GUESTS_LAST = """\
#!/bin/sh
# libvirt calls this with a domain's name and what happens to it.
#
# The kernel shares the processors out by sessions first (sched(7), "The autogroup feature"), and
# every guest is a session: twenty of them that boot would leave a twentieth to all of Roost, which
# at a site has machines of its own. What fails here would end the domain.
if [ "$2" = started ]; then
    echo 19 >"/proc/$(cat "/run/libvirt/qemu/$1.pid")/autogroup"
fi
exit 0
"""
"""A hook for guests, hooks/qemu: they get what the others leave of the processors."""
