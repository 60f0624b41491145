"""A guest that ends by itself between two of libvirt's calls."""

from __future__ import annotations

import libvirt
import pytest

from roost_host_agent.hypervisor.domain_power import _unless_it_ended


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
