"""Which of a node's addresses others see."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from roost_common.errors import Unavailable

_DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}


def towards(url: str) -> str:
    """The local address from which this machine reaches the host in ``url``.

    Connecting a datagram socket sends nothing: the kernel only looks its route up. Raises
    `Unavailable` when the host has no address or there is no way to it.
    """
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 5672)
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise Unavailable("host.no-address", "There is no way to {host}.", host=host) from error
