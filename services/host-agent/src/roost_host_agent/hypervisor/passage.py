"""Which way a domain goes while it migrates, as libvirt tells it.

All functions block and run in the connection's threads.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import libvirt

from roost_host_agent.hypervisor.domain_stats import Params

HELD: Final = frozenset(
    {
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP),
    }
)
"""States and reasons of a domain that may be arriving."""
_LEFT: Final = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
_OVER: Final = frozenset({libvirt.VIR_DOMAIN_JOB_FAILED, libvirt.VIR_DOMAIN_JOB_CANCELLED})


class Passage(StrEnum):
    """Where a domain is on its way."""

    ARRIVING = "arriving"
    """Memory comes in; the guest runs elsewhere, and must not run here yet."""
    LEAVING = "leaving"
    """Memory goes out; the guest runs here, but for the last moment."""
    LEFT = "left"
    """It runs elsewhere; libvirt is about to forget it."""


def of(domain: libvirt.virDomain, state: tuple[int, int], *, marked: bool) -> Passage | None:
    """The passage of a domain in this state and reason; None for one that stays.

    ``marked``: its mark names a migration. libvirt is asked only where there may be one.
    """
    if state == _LEFT:
        return Passage.LEFT
    held = state in HELD
    if not held and not marked:
        return None
    try:
        job = domain.jobStats(0)
    except libvirt.libvirtError as error:
        # "migration statistics are available only on the source host"
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            # A guest that runs has arrived, though libvirt is not done with it.
            return Passage.ARRIVING if held else None
        if error.get_error_code() in {
            libvirt.VIR_ERR_OPERATION_INVALID,  # it does not run any more
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_NO_SUPPORT,  # the mock, which holds nothing
        }:
            # What was held when its state was read is gone: the switch came between.
            return Passage.LEFT if held else None
        raise
    kind = job.get("type", libvirt.VIR_DOMAIN_JOB_NONE)
    # One that QEMU has completed is not over: the target has yet to say that the guest runs there.
    if kind == libvirt.VIR_DOMAIN_JOB_NONE or kind in _OVER:
        return None
    leaves = job.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    return Passage.LEAVING if leaves else None


def now(domain: libvirt.virDomain) -> Passage | None:
    """The passage of a domain at this moment."""
    try:
        state, reason = domain.state()[:2]
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    return of(domain, (state, reason), marked=True)


def state_of(params: Params) -> tuple[int, int]:
    """State and reason in libvirt's bulk statistics."""
    return int(params.get("state.state", 0)), int(params.get("state.reason", 0))
