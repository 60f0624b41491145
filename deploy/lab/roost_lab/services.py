"""The five services: their environment, their accounts, their programs."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping

from roost_lab import ca, code, rabbit_definitions
from roost_lab.node_init import HA
from roost_lab.postgres import PostgresServer
from roost_lab.process import run
from roost_lab.rabbitmq import RabbitServer, amqp_url
from roost_lab.secrets import Secrets
from roost_lab.site import (
    AGENT_PORT,
    AMQP_PORT,
    DATABASE,
    HTTP_PORT,
    SERVICE_PORTS,
    Copy,
    NodePlan,
    Site,
)
from roost_lab.supervisor import Program

CENTRAL = tuple(SERVICE_PORTS)
"""In the order in which they are started."""
ADMIN = "admin"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is not reached through a proxy, whatever the environment says."""


def package(service: str) -> str:
    """The Python package of a service."""
    return "roost_" + service.replace("-", "_")


def schema(service: str) -> str:
    """A service's schema in the database."""
    return service.replace("-", "_")


def database_role(service: str) -> str:
    """A service's database account."""
    return package(service)


class Services:
    """The services of one site."""

    def __init__(
        self, site: Site, secrets: Secrets, postgres: PostgresServer, rabbit: RabbitServer
    ) -> None:
        self._site = site
        self._secrets = secrets
        self._postgres = postgres
        self._rabbit = rabbit

    def bus_definitions(self) -> dict[str, object]:
        """RabbitMQ's users and permissions for these services and nodes."""
        return rabbit_definitions.render(
            {service: self._bus_password(service) for service in CENTRAL},
            {node.name: self._bus_password(node.name) for node in self._site.nodes},
            self._bus_password(rabbit_definitions.LAB_USER),
        )

    def make_accounts(self) -> None:
        """Make the database, and an account and a schema in it for every service."""
        self._postgres.create_database(DATABASE)
        for service in CENTRAL:
            role = database_role(service)
            self._postgres.create_role(role, self._database_password(service))
            self._postgres.create_schema(DATABASE, schema(service), role)

    def environment(self, copy: Copy) -> dict[str, str]:
        """The settings of a copy of a central service."""
        paths = self._site.paths
        service = copy.service
        prefix = f"ROOST_{service.replace('-', '_').upper()}_"
        settings = {
            "DATABASE_URL": self._postgres.url(
                DATABASE,
                user=database_role(service),
                password=self._database_password(service),
            ),
            "AMQP_URL": self._rabbit.url(
                rabbit_definitions.service_user(service),
                self._bus_password(service),
                rabbit_definitions.VHOST,
            ),
            "LISTEN": copy.address,
            # By the front: any copy of broker will do.
            "JWKS_URL": f"http://127.0.0.1:{HTTP_PORT}/api/v1/auth/jwks",
        }
        if service == "broker":
            settings |= {
                "SIGNING_KEY_FILE": str(self._secrets.signing_key_file()),
                "ADMIN_PASSWORD_FILE": str(self._secrets.password_file("admin-password")),
            }
        if service == "ha-monitor":
            settings |= {
                "SECRET_KEY_FILE": str(self._secrets.sealing_key_file("ha-monitor-key")),
                "FENCE_AGENTS_DIR": str(paths.fence_agents),
                "HA_DIR": str(paths.ha),
            }
        if service == "imaging":
            settings |= {"IMPORT_DIR": str(paths.imports), "STORAGE_ROOT": str(paths.storage)}
        return {prefix + name: value for name, value in settings.items()}

    def agent_environment(self, node: NodePlan) -> dict[str, str]:
        """The settings of a node's agent."""
        paths = self._site.paths
        settings = {
            "NODE": node.name,
            "ADDRESS": node.address,
            "AMQP_URL": amqp_url(
                self._site.network.host_address,
                AMQP_PORT,
                rabbit_definitions.agent_user(node.name),
                self._bus_password(node.name),
                rabbit_definitions.VHOST,
            ),
            "LISTEN": f"{node.address}:{AGENT_PORT}",
            "LIBVIRT_URI": "qemu:///system",
            "VIRT_TYPE": self._site.virt_type,
            "SPICE_CA_FILE": str(paths.certs / "ca.pem"),
            "SPICE_HOST_SUBJECT": ca.host_subject(node.name),
            "MIGRATION_URI": "qemu+tcp://{address}/system",
            # A plain directory of this machine is the nodes' shared storage.
            "STORAGE_SHARED": "true",
            "HA_DIR": HA,
        }
        return {f"ROOST_HOST_AGENT_{name}": value for name, value in settings.items()}

    def program(self, copy: Copy) -> Program:
        """What a machine runs for a copy of a central service."""
        paths = self._site.paths
        return Program(
            copy.name,
            (str(paths.python), "-m", package(copy.service)),
            paths.log(copy.name),
            environment={
                **self.environment(copy),
                code.STAMP: code.stamp(paths.repository, copy.service),
            },
            autostart=True,
        )

    def migrate(self, service: str, environment: Mapping[str, str]) -> None:
        """Bring a service's schema up to date."""
        run(
            [self._site.paths.python, "-m", package(service), "migrate"],
            env={**environment, **self.environment(Copy(service, 1))},
        )

    def _bus_password(self, name: str) -> str:
        return self._secrets.password(f"amqp-{name}")

    def _database_password(self, name: str) -> str:
        return self._secrets.password(f"database-{name}")


def is_ready(copy: Copy) -> bool:
    """Whether a copy of a central service says that it can work."""
    url = f"http://{copy.address}/readyz"
    try:
        with _OPENER.open(url, timeout=3) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
