"""Metrics that every service has. A service's own stand in its ``metrics.py``."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

__all__ = [
    "BUS_CONNECTED",
    "CONTENT_TYPE",
    "HTTP_SECONDS",
    "LOOP_FAILURES",
    "MESSAGES_HANDLED",
    "MESSAGE_SECONDS",
    "OUTBOX_PENDING",
    "OUTBOX_SENT",
    "render",
]

CONTENT_TYPE = CONTENT_TYPE_LATEST

MESSAGES_HANDLED = Counter(
    "roost_messages_handled_total", "Messages taken from the bus", ["type", "outcome"]
)
MESSAGE_SECONDS = Histogram(
    "roost_message_seconds", "Time to handle a message", ["type"], buckets=(0.005, 0.05, 0.5, 5)
)
HTTP_SECONDS = Histogram(
    "roost_http_request_seconds",
    "Time to answer an HTTP request",
    ["method", "route", "status"],
    buckets=(0.005, 0.025, 0.1, 0.25, 1, 5, 30),
)
BUS_CONNECTED = Gauge("roost_bus_connected", "1 while connected to the bus")
OUTBOX_SENT = Counter("roost_outbox_sent_total", "Messages the relay has published")
OUTBOX_PENDING = Gauge("roost_outbox_pending", "Messages waiting in the outbox")
LOOP_FAILURES = Counter("roost_loop_failures_total", "Passes of a loop that failed", ["loop"])


def render() -> bytes:
    """Everything in the Prometheus text format."""
    return generate_latest()
