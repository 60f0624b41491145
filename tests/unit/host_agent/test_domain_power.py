"""A guest that ends by itself between two of libvirt's calls, and disks that cannot be opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import libvirt
import pytest

from roost_common.errors import NotFound
from roost_host_agent.hypervisor.domain_power import DomainPower, _unless_it_ended
from roost_host_agent.hypervisor.domain_reader import DomainReader
from roost_host_agent.hypervisor.host_profile import DiskCache, HostProfile, VirtType


class Guest:
    """As much of a ``virDomain`` as tells how far its end has come."""

    def __init__(self, state: int, *, active: bool) -> None:
        self._state = state
        self._active = active

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return self._active

    def state(self) -> list[int]:
        return [self._state, 0]


def failing(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("virDomainShutdown() failed")
    error.err = (code, 0, "domain is not running", 0, "", "", "", 0, 0)
    return error


@pytest.mark.parametrize(
    "guest",
    [
        pytest.param(Guest(libvirt.VIR_DOMAIN_SHUTOFF, active=False), id="its process is gone"),
        pytest.param(Guest(libvirt.VIR_DOMAIN_SHUTDOWN, active=True), id="its process is going"),
    ],
)
def test_a_guest_that_has_ended_is_not_asked_again(guest: Guest) -> None:
    with _unless_it_ended(guest):
        raise failing(libvirt.VIR_ERR_OPERATION_INVALID)


def test_whatever_else_fails_is_told() -> None:
    runs = Guest(libvirt.VIR_DOMAIN_RUNNING, active=True)
    with pytest.raises(libvirt.libvirtError), _unless_it_ended(runs):
        raise failing(libvirt.VIR_ERR_OPERATION_INVALID)
    ended = Guest(libvirt.VIR_DOMAIN_SHUTDOWN, active=True)
    with pytest.raises(libvirt.libvirtError), _unless_it_ended(ended):
        raise failing(libvirt.VIR_ERR_OPERATION_FAILED)


# --- the disk -------------------------------------------------------------------------------------

HOST = HostProfile(virt_type=VirtType.KVM, spice_listen="192.0.2.1")


def cache(path: Path | str, *, probe: bool = True) -> DiskCache:
    """The mode for this disk where none is what the node is set to."""
    reader = DomainReader("192.0.2.1", lambda *_: None)
    power = DomainPower(reader, probe_direct_io=probe)
    return power._look_at(str(path), HOST).disk_cache


def cache_after(code: int, monkeypatch: pytest.MonkeyPatch, *, probe: bool = True) -> DiskCache:
    def refuse(path: str, _flags: int) -> int:
        raise OSError(code, os.strerror(code), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        return cache("/disk.qcow2", probe=probe)


def test_a_file_system_without_direct_io_gets_write_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_after(errno.EINVAL, monkeypatch) is DiskCache.WRITEBACK


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("probe", [True, False])
def test_a_disk_that_cannot_be_opened_keeps_its_mode(
    code: int, probe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_after(code, monkeypatch, probe=probe) is DiskCache.NONE


def test_the_mode_that_was_asked_for_is_kept_whatever_the_file_system_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cache_after(errno.EINVAL, monkeypatch, probe=False) is DiskCache.NONE


def test_disks_on_a_real_file_system(tmp_path: Path) -> None:
    loop, gone = tmp_path / "loop", tmp_path / "gone"
    loop.symlink_to(loop)
    assert cache(loop) is DiskCache.NONE
    with pytest.raises(NotFound):
        cache(gone)
