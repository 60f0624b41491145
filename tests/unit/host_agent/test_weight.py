"""The agent shares its node with desktops: it carries only what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = """
import sys
import roost_common.service, roost_host_agent.bootstrap
{more}
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""
_DRIVER = "import roost_host_agent.hypervisor.libvirt"


def loaded(more: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(more=more)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


HEAVY = {"sqlalchemy", "fastapi", "asyncpg", "alembic", "cryptography"}


@pytest.mark.long
def test_what_the_central_services_need_is_not_loaded() -> None:
    assert not loaded(_DRIVER) & HEAVY


@pytest.mark.long
def test_without_the_libvirt_driver_there_is_no_libvirt() -> None:
    assert not loaded("") & {"libvirt", "libvirt_qemu", "libvirtmod", "lxml"}
