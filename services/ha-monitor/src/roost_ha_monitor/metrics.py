"""What ha-monitor counts."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from roost_common.contracts.host import Health
from roost_common.contracts.incident import IncidentState

LEADER = Gauge("roost_ha_monitor_leader", "1 in the copy that decides")
DEAF = Gauge("roost_ha_monitor_deaf", "1 while this copy does not hear its own beat")
HOSTS = Gauge("roost_ha_monitor_hosts", "Watched hosts, told by the copy that decides", ["health"])
TRANSITIONS = Counter("roost_ha_monitor_transitions_total", "Changes of health", ["health"])

INCIDENTS = Gauge(
    "roost_ha_monitor_incidents", "Open incidents, told by the copy that decides", ["state"]
)
FENCINGS = Counter(
    "roost_ha_monitor_fencings_total", "Fence devices told to switch a host off", ["outcome"]
)


def count_hosts(healths: Iterable[Health | None]) -> None:
    """How many hosts are in each health now."""
    counts = Count(health for health in healths if health is not None)
    for health in Health:
        HOSTS.labels(health).set(counts[health])


def count_incidents(states: Iterable[IncidentState]) -> None:
    """How many open incidents stand where."""
    counts = Count(states)
    for state in IncidentState:
        if state is not IncidentState.RESOLVED:
            INCIDENTS.labels(state).set(counts[state])
