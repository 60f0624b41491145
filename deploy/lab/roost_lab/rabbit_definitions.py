"""Who may do what on the bus: users and permissions, as RabbitMQ's definitions file has them.

Pure. Names of exchanges and queues are `roost_common.topology`'s.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

VHOST = "roost"
LAB_USER = "lab"
"""For people and tests: may do everything."""
ASKERS = ("broker", "inventory")
"""The services that ask agents, and to whose queues agents answer."""
_EXCHANGES = r"roost\.(events|commands|telemetry|replies|dead)"


def password_hash(password: str, salt: bytes | None = None) -> str:
    """RabbitMQ's ``rabbit_password_hashing_sha256``: base64 of salt + SHA-256(salt + password).

    The salt has 4 bytes. It follows from the password where none is given, so that the same
    accounts make the same file; the lab's passwords are random, and no two of them alike.
    """
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4] if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def service_user(service: str) -> str:
    """The bus user of a central service."""
    return f"roost-{service}"


def agent_user(node: str) -> str:
    """The bus user of a node's agent."""
    return f"roost-agent-{node}"


def render(
    services: Mapping[str, str], agents: Mapping[str, str], lab_password: str
) -> dict[str, Any]:
    """The definitions for these services and nodes, each with its password."""
    users = [_user(LAB_USER, lab_password, tags=["administrator"])]
    permissions = [_permission(LAB_USER, ".*", ".*", ".*")]
    topics: list[dict[str, str]] = []
    for service, password in services.items():
        user = service_user(service)
        users.append(_user(user, password))
        own = rf"roost\.{re.escape(service)}(\..*)?"
        # Questions to agents go by amq.default. It reaches every queue, whatever else is written
        # here about routing keys: nobody else may use it.
        ask = r"|amq\.default" if service in ASKERS else ""
        permissions.append(
            _permission(
                user,
                configure=rf"^({_EXCHANGES}|{own})$",
                write=rf"^({_EXCHANGES}|{own}{ask})$",
                read=rf"^({_EXCHANGES}|{own})$",
            )
        )
        # Answers hold the passwords of displays.
        topics.append(_topic(user, "roost.replies", write="^$", read=f"^{_replies(service)}$"))
    for node, password in agents.items():
        user = agent_user(node)
        users.append(_user(user, password))
        name = re.escape(node)
        # Not everything that begins so: a node's name may begin with another's.
        own = rf"roost\.host-agent\.{name}(\.queries|\.telemetry\.[0-9a-f.]+)?"
        askers = "|".join(_replies(service) for service in ASKERS)
        permissions.append(
            _permission(
                user,
                # No exchange: the right to declare one is the right to delete it.
                configure=rf"^{own}$",
                # Binding a queue needs the right to write to it and to read from the exchange;
                # a dead-letter exchange the right to write to it.
                write=rf"^(roost\.(events|telemetry|replies|dead)|{own})$",
                read=rf"^(roost\.(commands|telemetry)|{own})$",
            )
        )
        topics += [
            # Another node's commands cannot be bound, and no other service's events be forged.
            _topic(user, "roost.commands", write="^$", read=rf"^[a-z.-]+\.v[0-9]+\.{name}$"),
            _topic(
                user,
                "roost.events",
                write=r"^(domain\.observed|migration\.ended)\.v[0-9]+$",
                read="^$",
            ),
            _topic(user, "roost.replies", write=f"^({askers})$", read="^$"),
            # What grants a node its lease comes from services alone, and only its own is heard.
            _topic(
                user,
                "roost.telemetry",
                write=r"^(host\.(beat|report)|migration\.progress)\.v[0-9]+$",
                read=rf"^lease\.granted\.v[0-9]+\.{name}$",
            ),
        ]
    return {
        "vhosts": [{"name": VHOST}],
        "users": users,
        "permissions": permissions,
        "topic_permissions": topics,
    }


def _replies(service: str) -> str:
    """The pattern of the names of a service's reply queues; no wildcard of a binding fits it."""
    return rf"roost\.{re.escape(service)}\.replies\.[0-9a-f-]+"


def _user(name: str, password: str, tags: list[str] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": password_hash(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags or [],
    }


def _permission(user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": VHOST, "configure": configure, "write": write, "read": read}


def _topic(user: str, exchange: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": VHOST, "exchange": exchange, "write": write, "read": read}
