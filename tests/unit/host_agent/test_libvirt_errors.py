"""Texts are what libvirt 9 and QEMU 7 really said."""

from __future__ import annotations

import libvirt
import pytest

from roost_common.errors import Conflict, Invalid, NoCapacity, NotFound, Outage, Unavailable
from roost_host_agent.hypervisor.libvirt_errors import translate

_START = "internal error: process exited while connecting to monitor: 2026-01-05T08:00:00.1Z "


def error(code: int, text: str, domain: int = libvirt.VIR_FROM_QEMU) -> libvirt.libvirtError:
    made = libvirt.libvirtError(text)
    made.err = (code, domain, text, 2, "", "", "", 0, 0)
    return made


@pytest.mark.parametrize(
    ("code", "text", "kind", "expected"),
    [
        (
            libvirt.VIR_ERR_INTERNAL_ERROR,
            _START + 'qemu-system-x86_64: -blockdev {}: Failed to get "write" lock\n'
            "Is another process using the image [/s/d.qcow2]?",
            Conflict,
            "desktop.disk-locked",
        ),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Cannot access storage file '/s/d.qcow2': No such file or directory",
            NotFound,
            "desktop.disk-missing",
        ),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Cannot access backing file '/s/b.qcow2' of storage file '/s/d.qcow2': No such file",
            NotFound,
            "desktop.disk-missing",
        ),
        (
            libvirt.VIR_ERR_INTERNAL_ERROR,
            _START + "qemu-system-x86_64: cannot set up guest memory 'pc.ram': "
            "Cannot allocate memory",
            NoCapacity,
            "host.resources",
        ),
        (
            libvirt.VIR_ERR_INTERNAL_ERROR,
            _START + "qemu-system-x86_64: something new",
            Conflict,
            "desktop.start-failed",
        ),
        (
            libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
            "unsupported configuration: Emulator does not support virt type 'kvm'",
            Invalid,
            "host.unsupported",
        ),
        (
            libvirt.VIR_ERR_OPERATION_FAILED,
            "operation failed: domain 'roost-a' already exists with uuid 1-2",
            Conflict,
            "host.name-taken",
        ),
        (
            libvirt.VIR_ERR_OPERATION_INVALID,
            "Requested operation is not valid: domain is not running",
            Conflict,
            "desktop.not-running",
        ),
        (libvirt.VIR_ERR_NO_DOMAIN, "Domain not found", NotFound, "desktop.not-found"),
        (
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
            "Timed out during operation: cannot acquire state change lock",
            Unavailable,
            "host.libvirt-busy",
        ),
        (libvirt.VIR_ERR_NO_CONNECT, "no connection", Outage, "host.libvirt-unavailable"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "who knows", Unavailable, "host.libvirt-trouble"),
    ],
)
def test_each_trouble_has_its_code(
    code: int, text: str, kind: type[Exception], expected: str
) -> None:
    found = translate(error(code, text))
    assert type(found) is kind
    assert found.code == expected
    assert found.detail


def test_a_broken_connection_is_an_outage() -> None:
    found = translate(
        error(
            libvirt.VIR_ERR_INTERNAL_ERROR, "client socket is closed", domain=libvirt.VIR_FROM_RPC
        )
    )
    assert type(found) is Outage


def test_qemus_words_come_without_its_prefix() -> None:
    found = translate(
        error(libvirt.VIR_ERR_INTERNAL_ERROR, _START + "qemu-system-x86_64: something {new}")
    )
    assert found.detail == "something {new}"
