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


def plan(states: Mapping[str, State], already_open: Collection[Key]) -> Plan:
    """What to raise and what to clear, so that the open alerts are those of ``states``."""
    wanted = {alert.key: alert for node, state in states.items() for alert in _wanted(node, state)}
    return Plan(
        to_raise=[alert for key, alert in wanted.items() if key not in already_open],
        to_clear=[key for key in already_open if key not in wanted and not _unknown(key, states)],
    )


def _wanted(node: str, state: State) -> list[Wanted]:
    if state.health is Health.DOWN:
        message = f"Host {node} is down: its agent does not beat. Its desktops may still run."
        return [Wanted(HOST_DOWN, node, Severity.ALERT, message)]
    if state.health is not None and state.pulse is not None and not state.pulse.libvirt:
        message = f"libvirt on host {node} does not answer; its desktops cannot be managed."
        return [Wanted(LIBVIRT_DOWN, node, Severity.ERROR, message)]
    return []


def _unknown(key: Key, states: Mapping[str, State]) -> bool:
    """Whether nothing can be said: a copy that just started has not heard this host yet."""
    alert, node = key
    state = states.get(node)
    return alert == LIBVIRT_DOWN and (
        state is None or (state.pulse is None and state.health not in (None, Health.DOWN))
    )
