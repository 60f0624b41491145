"""Which alerts there should be, compared with those that are open. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from roost_common.contracts.alert import Severity
from roost_common.contracts.host import Health
from roost_ha_monitor.detector import State

HOST_DOWN: Final = "host.down"
LIBVIRT_DOWN: Final = "host.libvirt-down"
AGENT_SILENT: Final = "host.agent-silent"
UNFENCED: Final = "host.unfenced"
DEVICE_FAILED: Final = "host.fence-device-failed"
NO_SECOND_PATH: Final = "host.no-second-path"
GIVEN_UP: Final = "incident.desktops-given-up"
OF_STATES: Final = frozenset({HOST_DOWN, LIBVIRT_DOWN, AGENT_SILENT})
"""Those that follow from hosts' states; the others are set where their cause is."""
OF_HOSTS: Final = (
    HOST_DOWN,
    LIBVIRT_DOWN,
    AGENT_SILENT,
    UNFENCED,
    DEVICE_FAILED,
    NO_SECOND_PATH,
)
"""Those that end when their host is watched no more."""
AGENT_SILENT_AFTER_S: Final = 30.0

Key = tuple[str, str]
"""Name of the alert (and of its runbook) and what it is about; one of these is open at a time."""


@dataclass(frozen=True)
class Wanted:
    """An alert that should be open."""

    alert: str
    object: str
    severity: Severity
    message: str

    @property
    def key(self) -> Key:
        """See `Key`."""
        return self.alert, self.object


@dataclass(frozen=True)
class Plan:
    """What to do about alerts."""

    to_raise: list[Wanted]
    to_clear: list[Key]

    def __bool__(self) -> bool:
        return bool(self.to_raise or self.to_clear)


def plan(
    states: Mapping[str, State],
    already_open: Collection[Key],
    now: float,
    silent_after_s: float = AGENT_SILENT_AFTER_S,
) -> Plan:
    """What to raise and what to clear, so that the open alerts are those of ``states``."""
    wanted = {
        alert.key: alert
        for node, state in states.items()
        for alert in _wanted(node, state, now, silent_after_s)
    }
    return Plan(
        to_raise=[alert for key, alert in wanted.items() if key not in already_open],
        to_clear=[
            key
            for key in already_open
            if key[0] in OF_STATES and key not in wanted and not _unknown(key, states)
        ],
    )


def _wanted(node: str, state: State, now: float, silent_after_s: float) -> list[Wanted]:
    if state.maintained:
        return []
    if state.health is Health.DOWN:
        message = f"Host {node} is down. Its incident says whether its desktops may still run."
        return [Wanted(HOST_DOWN, node, Severity.ALERT, message)]
    silent_since = max(state.since, state.spared_until)
    if state.health is Health.SUSPECTED and now - silent_since >= silent_after_s:
        message = (
            f"The agent on host {node} does not beat, but the machine is not known to be dead."
        )
        return [Wanted(AGENT_SILENT, node, Severity.ERROR, message)]
    seen = state.health not in (None, Health.OFF) and state.pulse is not None
    if seen and state.pulse is not None and not state.pulse.libvirt:
        message = f"libvirt on host {node} does not answer; its desktops cannot be managed."
        return [Wanted(LIBVIRT_DOWN, node, Severity.ERROR, message)]
    return []


def _unknown(key: Key, states: Mapping[str, State]) -> bool:
    """Whether nothing can be said: a copy that just started has not heard this host yet, or does
    not know how long it has been silent."""
    alert, node = key
    state = states.get(node)
    if state is not None and state.maintained:
        return False
    if alert == AGENT_SILENT:
        return state is not None and state.health is Health.SUSPECTED
    return alert == LIBVIRT_DOWN and (
        state is None
        or (state.pulse is None and state.health not in (None, Health.DOWN, Health.OFF))
    )
