"""The bus: the only package that knows the AMQP library.

`Bus` is a process's place on it, `link` one connection, `handling` the three ends of a handler,
`wire` what messages look like in AMQP.
"""

from roost_common.bus.bus import (
    NO_CONSUMER,
    PUBLISH_DEADLINE_S,
    Bus,
    QuerySubscription,
    Responder,
    Subscription,
)
from roost_common.bus.handling import Handler

__all__ = [
    "NO_CONSUMER",
    "PUBLISH_DEADLINE_S",
    "Bus",
    "Handler",
    "QuerySubscription",
    "Responder",
    "Subscription",
]
