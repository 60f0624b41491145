"""What a person and a test are told of a lab that is up: addresses, accounts, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from roost_lab import rabbit_definitions, services
from roost_lab import site as sites
from roost_lab.demo import POOL, USER
from roost_lab.postgres import PostgresServer
from roost_lab.rabbitmq import RabbitServer
from roost_lab.secrets import Secrets
from roost_lab.site import Site

TEXT: Final = f"""
The lab is up.
  address        http://localhost:{sites.HTTP_PORT}
                 https://localhost:{sites.HTTPS_PORT}  (authority: .roost/certs/ca.pem)
  administrator  {services.ADMIN:6} password in .roost/secrets/admin-password
  user           {USER:6} password in .roost/secrets/demo-password
  variables      .roost/lab.env

Next:
  set -a; . .roost/lab.env; set +a
  curl -s -u "$ROOST_DEMO_USER:$ROOST_DEMO_PASSWORD" -X POST \\
    -H 'Prefer: wait=60' -H 'Accept: application/x-virt-viewer' \\
    "$ROOST_URL/api/v1/launch" | remote-viewer -
  make status                    every part of it
  deploy/lab/node node-a kill    a node dies; cut, heal, start, status, …
  deploy/lab/service broker kill one program crashes and comes back; stop, start, freeze, …
  deploy/lab/machine 2 kill      all copies on one machine die (make up COPIES=2); start, status
  make down                      everything goes"""


def variables(
    site: Site, secrets: Secrets, postgres: PostgresServer, rabbit: RabbitServer
) -> dict[str, str]:
    """The variables of ``lab.env``."""
    user = rabbit_definitions.LAB_USER
    return {
        "ROOST_URL": f"http://localhost:{sites.HTTP_PORT}",
        "ROOST_HTTPS_URL": f"https://localhost:{sites.HTTPS_PORT}",
        "ROOST_CA": str(site.paths.certs / "ca.pem"),
        "ROOST_ADMIN_USER": services.ADMIN,
        "ROOST_ADMIN_PASSWORD": secrets.password("admin-password"),
        "ROOST_DEMO_USER": USER,
        "ROOST_DEMO_PASSWORD": secrets.password("demo-password"),
        "ROOST_DEMO_POOL": POOL,
        "ROOST_AMQP_URL": rabbit.url(
            user, secrets.password(f"amqp-{user}"), rabbit_definitions.VHOST
        ),
        "ROOST_DATABASE_URL": postgres.url(sites.DATABASE, "postgresql"),
        "ROOST_NODES": ",".join(node.name for node in site.nodes),
        "ROOST_COPIES": str(site.copies),
    }


def as_shell(values: Mapping[str, str]) -> str:
    """Assignments that a shell can read, and so can whatever splits lines at the first ``=``."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
