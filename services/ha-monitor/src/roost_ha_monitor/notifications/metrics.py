"""What is counted of notifications."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

TRIES = Counter(
    "roost_ha_monitor_notification_tries_total",
    "Tries to notify, by how they ended: sent, failed, given-up",
    ["kind", "outcome"],
)
DROPPED = Counter(
    "roost_ha_monitor_notifications_dropped_total",
    "Notifications of what was over before anybody had been told",
)
WAITING = Gauge("roost_ha_monitor_notifications_waiting", "Notifications not sent yet")
