"""libvirt's bulk statistics of a domain, made into what a report says.

Names of the parameters: libvirt, ``virConnectGetAllDomainStats``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import libvirt

from roost_common.contracts.desktop import DomainState, DomainStats, StopReason

Params = Mapping[str, int | str | bool]

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
    # The guest has been asked and has not gone yet.
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.SHUTOFF,
}
_REASONS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: StopReason.GUEST_SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: StopReason.REQUESTED,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: StopReason.REQUESTED,
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: StopReason.REQUESTED,
}


@dataclass(frozen=True, slots=True)
class CpuSample:
    """A domain's processor time at a moment, to take the difference from."""

    at: float
    """Monotonic seconds."""
    cpu_ns: int


def state(params: Params) -> DomainState:
    """The domain's state."""
    return _STATES.get(int(params.get("state.state", 0)), DomainState.RUNNING)


def state_now(domain: libvirt.virDomain) -> Params:
    """State and reason at this moment, as bulk statistics tell them."""
    now, reason = domain.state()[:2]
    return {"state.state": now, "state.reason": reason}


def paused_by_storage(params: Params) -> bool:
    """Whether the guest was paused because its disk failed."""
    found = (int(params.get("state.state", 0)), int(params.get("state.reason", 0)))
    return found == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)


def stop_reason(params: Params, *, asked: bool) -> StopReason | None:
    """Why a domain is shut off; ``asked``: Roost had asked the guest to shut down.

    Whatever libvirt has no better word for (crashed, failed, a daemon or host that went down
    meanwhile) was told by nobody, so it counts as crashed.
    """
    if state(params) is not DomainState.SHUTOFF:
        return None
    if asked:
        return StopReason.REQUESTED
    if int(params.get("state.state", 0)) == libvirt.VIR_DOMAIN_CRASHED:
        return StopReason.CRASHED
    return _REASONS.get(int(params.get("state.reason", 0)), StopReason.CRASHED)


def cpu_sample(params: Params, now: float) -> CpuSample:
    """The sample in these parameters."""
    return CpuSample(at=now, cpu_ns=int(params.get("cpu.time", 0)))


def usage(params: Params, vcpus: int, before: CpuSample | None, current: CpuSample) -> DomainStats:
    """Use of resources: processor since ``before``, counters since the domain started.

    Memory is the guest's own account (what is neither free nor reclaimable) where its balloon
    driver tells, else what QEMU holds of the host's. The first sample of a domain says 0 %.
    """
    return DomainStats(
        cpu_percent=_cpu_percent(vcpus, before, current),
        memory_used_mib=_memory_kib(params) // 1024,
        disk_read_bytes=_sum(params, "block", "rd.bytes"),
        disk_written_bytes=_sum(params, "block", "wr.bytes"),
        net_received_bytes=_sum(params, "net", "rx.bytes"),
        net_sent_bytes=_sum(params, "net", "tx.bytes"),
    )


def _cpu_percent(vcpus: int, before: CpuSample | None, current: CpuSample) -> float:
    if before is None or current.at <= before.at or current.cpu_ns < before.cpu_ns:
        return 0.0
    share = (current.cpu_ns - before.cpu_ns) / 1e9 / (current.at - before.at) / max(vcpus, 1)
    return round(min(share, 1.0) * 100, 1)


def _memory_kib(params: Params) -> int:
    total = int(params.get("balloon.available", 0))
    free = int(params.get("balloon.usable", params.get("balloon.unused", 0)))
    if total and free:
        return total - free
    held = int(params.get("balloon.rss", 0))
    given = int(params.get("balloon.current", held))
    # QEMU holds more than the guest's memory: video memory, buffers, its own code.
    return min(held, given)


def _sum(params: Params, group: str, field: str) -> int:
    count = int(params.get(f"{group}.count", 0))
    return sum(int(params.get(f"{group}.{index}.{field}", 0)) for index in range(count))
