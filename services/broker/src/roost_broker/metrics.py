"""What broker counts besides what every service does."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LOGINS = Counter("roost_broker_logins_total", "Log-ons by outcome", ["outcome"])
LOGINS_WAITING = Gauge("roost_broker_logins_waiting", "Passwords that wait to be checked")
LAUNCHES = Counter("roost_broker_launches_total", "Answers to launches", ["outcome"])
TICKET_SECONDS = Histogram(
    "roost_broker_ticket_seconds",
    "Time in which a node's agent opens a screen",
    buckets=(0.005, 0.025, 0.1, 0.25, 1, 5),
)
LAUNCHES_HELD = Gauge("roost_broker_launches_held", "Requests that wait here for a desktop")
SESSIONS = Gauge("roost_broker_sessions", "Open sessions", ["state"])
POOL_ACTIONS = Counter("roost_broker_pool_actions_total", "What pool plans had done", ["action"])
