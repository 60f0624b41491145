"""What the lab tells its services is what their settings ask for."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from roost_broker.settings import Settings as Broker
from roost_common.settings import ServiceSettings
from roost_ha_monitor.settings import Settings as HaMonitor
from roost_host_agent.settings import Settings as HostAgent
from roost_imaging.settings import Settings as Imaging
from roost_inventory.settings import Settings as Inventory
from roost_lab import site
from roost_lab.ca import host_subject
from roost_lab.network import Network
from roost_lab.paths import Paths
from roost_lab.postgres import PostgresServer
from roost_lab.rabbitmq import RabbitServer
from roost_lab.secrets import Secrets
from roost_lab.services import CENTRAL, Services

SETTINGS: dict[str, type[ServiceSettings]] = {
    "broker": Broker,
    "inventory": Inventory,
    "imaging": Imaging,
    "ha-monitor": HaMonitor,
}


_EMPTY = (Paths(Path("/srv/roost")), Network("10.77.0.0/24"), ())


@pytest.fixture
def services(tmp_path: Path) -> Services:
    paths = Paths(tmp_path)
    paths.make()
    plan = site.plan(paths, "10.77.0.0/24", 2)
    return Services(
        plan,
        Secrets(paths.secrets),
        PostgresServer(tmp_path / "pg", 8131),
        RabbitServer(tmp_path / "mq", 8132, 8133),
    )


def accepted(
    settings: type[ServiceSettings], given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    """The settings made of this environment, of which every name must be one of theirs."""
    prefix = settings.model_config["env_prefix"]
    known = {f"{prefix}{name}".upper() for name in settings.model_fields}
    assert set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return settings()


@pytest.mark.parametrize("service", CENTRAL)
def test_a_services_settings(
    services: Services, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = site.Copy(service, 2)
    made = accepted(SETTINGS[service], services.environment(copy), monkeypatch)
    assert made.listen == copy.address
    for _, value in made:
        if isinstance(value, Path) and value.suffix == ".pem":
            assert value.exists()


def test_accounts_are_every_services_own(services: Services) -> None:
    copies = [site.Copy(name, 1) for name in CENTRAL]
    urls = [value for copy in copies for value in services.environment(copy).values()]
    passwords = [url.split(":")[2].split("@")[0] for url in urls if "@" in url]
    assert len(passwords) == len(set(passwords)) == 2 * len(CENTRAL)


@pytest.mark.parametrize("service", CENTRAL)
def test_copies_differ_in_where_they_listen_alone(services: Services, service: str) -> None:
    one, other = (services.environment(site.Copy(service, number)) for number in (1, 2))
    different = {name.rpartition("_")[2] for name in one if one[name] != other[name]}
    assert different == {"LISTEN"}


def test_no_copy_needs_a_certain_other_one(services: Services) -> None:
    ports = {f":{copy.port}/" for copy in site.Site(*_EMPTY, copies=3).all_copies()}
    for service in CENTRAL:
        values = services.environment(site.Copy(service, 1)).values()
        assert not [value for value in values if any(port in value for port in ports)]


def test_an_agents_settings(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    node = site.NodePlan("node-b", "10.77.0.12")
    made = accepted(HostAgent, services.agent_environment(node), monkeypatch)
    assert isinstance(made, HostAgent)
    assert (made.node, made.address) == ("node-b", "10.77.0.12")
    assert made.spice_host_subject == host_subject("node-b")
    assert isinstance(made.amqp_url, SecretStr)
    # The bus is on the bridge for nodes, whose loopback is their own.
    assert "@10.77.0.1:" in made.amqp_url.get_secret_value()
