"""Python client of Roost's HTTP interface.

::

    with Roost("https://roost.example", ca="ca.pem") as roost:
        roost.log_in("alice", password)
        ticket = roost.launch(Wish(pool="office"), wait_s=120)
        roost.desktops.act("office-7", "reboot")

The command ``roost`` is built on it.
"""

from roost_client._client import Account, Roost
from roost_client._collection import Accepted, Collection, JsonObject
from roost_client._errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    NotUnderstood,
    Refused,
    RoostClientError,
    TooMany,
    Unavailable,
    Unreachable,
    WaitedTooLong,
    WorkFailed,
)
from roost_client._launch import Place, Ticket, Wish

__all__ = [
    "Accepted",
    "Account",
    "Collection",
    "Conflict",
    "Forbidden",
    "Invalid",
    "JsonObject",
    "NotAuthenticated",
    "NotFound",
    "NotUnderstood",
    "Place",
    "Refused",
    "Roost",
    "RoostClientError",
    "Ticket",
    "TooMany",
    "Unavailable",
    "Unreachable",
    "WaitedTooLong",
    "Wish",
    "WorkFailed",
]
