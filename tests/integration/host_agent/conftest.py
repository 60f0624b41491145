from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.host_agent.private_libvirtd import PrivateLibvirtd
from tests.needs import require, require_root


@pytest.fixture(scope="session")
def libvirtd(servers_dir: Path) -> Iterator[PrivateLibvirtd]:
    """A libvirtd of this run, with QEMU under it."""
    require("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare", "openssl")
    require_root("to make namespaces")
    server = PrivateLibvirtd(servers_dir / "lv")
    server.start()
    yield server
    server.close()
