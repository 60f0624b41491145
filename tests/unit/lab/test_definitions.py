"""Users and permissions on the bus, as RabbitMQ reads them."""

import base64
import hashlib
import re
from typing import Any
from uuid import UUID

import pytest

from roost_common import topology
from roost_lab import rabbit_definitions
from roost_lab.rabbitmq import amqp_url

Definitions = dict[str, Any]


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return rabbit_definitions.render(
        {"inventory": "one", "ha-monitor": "two"}, {"node-a": "three", "node-b": "four"}, "five"
    )


def may(definitions: Definitions, user: str, verb: str, name: str) -> bool:
    (rule,) = [rule for rule in definitions["permissions"] if rule["user"] == user]
    return re.search(rule[verb], name) is not None


def may_topic(definitions: Definitions, user: str, exchange: str, verb: str, key: str) -> bool:
    (rule,) = [
        rule
        for rule in definitions["topic_permissions"]
        if (rule["user"], rule["exchange"]) == (user, exchange)
    ]
    return re.search(rule[verb], key) is not None


def test_a_hash_is_salt_and_digest_of_salt_and_password() -> None:
    salt = bytes.fromhex("908dc60a")
    # The worked example of RabbitMQ's own documentation on passwords.
    assert rabbit_definitions.password_hash("test12", salt) == (
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    )
    made = base64.b64decode(rabbit_definitions.password_hash("secret"))
    assert made[4:] == hashlib.sha256(made[:4] + b"secret").digest()


def test_the_same_accounts_make_the_same_file_and_others_another() -> None:
    one = rabbit_definitions.render({}, {"node-a": "x"}, "y")
    assert one == rabbit_definitions.render({}, {"node-a": "x"}, "y")
    assert one != rabbit_definitions.render({}, {"node-a": "z"}, "y")


def test_no_password_is_written_in_clear(definitions: Definitions) -> None:
    assert not {"one", "two", "three", "four", "five"} & set(re.findall(r"\w+", str(definitions)))


@pytest.mark.parametrize("verb", ["configure", "write", "read"])
@pytest.mark.parametrize(
    "name",
    [
        "roost.host-agent.node-a",
        "roost.host-agent.node-a.queries",
        "roost.host-agent.node-a.telemetry.1f2e",
    ],
)
def test_an_agent_has_its_own_queues(definitions: Definitions, verb: str, name: str) -> None:
    assert may(definitions, "roost-agent-node-a", verb, name)


@pytest.mark.parametrize("verb", ["configure", "write", "read"])
@pytest.mark.parametrize(
    "name",
    [
        "roost.host-agent.node-b",
        "roost.host-agent.node-ab",
        "roost.host-agent.node-b.telemetry.1f2e",
        "roost.inventory",
        "roost.broker",
        # By its name it would reach any queue, whatever the rules on routing keys.
        "amq.default",
        # A node of this name may be there, too.
        "roost.host-agent.node-a.site",
        "roost.host-agent.node-a.site.queries",
        "x",
    ],
)
def test_an_agent_touches_nobody_elses_queue(
    definitions: Definitions, verb: str, name: str
) -> None:
    assert not may(definitions, "roost-agent-node-a", verb, name)


def test_an_agent_sends_no_commands(definitions: Definitions) -> None:
    assert not may(definitions, "roost-agent-node-a", "write", "roost.commands")


@pytest.mark.parametrize(
    "exchange", [*topology.EXCHANGE_OF.values(), "roost.replies", "roost.dead"]
)
def test_services_declare_the_exchanges_and_agents_do_not(
    definitions: Definitions, exchange: str
) -> None:
    assert may(definitions, "roost-inventory", "configure", exchange)
    assert not may(definitions, "roost-agent-node-a", "configure", exchange)


@pytest.mark.parametrize("exchange", ["roost.commands", "roost.telemetry"])
def test_an_agent_binds_its_queues(definitions: Definitions, exchange: str) -> None:
    assert may(definitions, "roost-agent-node-a", "read", exchange)
    assert not may(definitions, "roost-agent-node-a", "read", "roost.events")


@pytest.mark.parametrize(
    ("exchange", "verb", "key", "allowed"),
    [
        ("roost.commands", "read", "desktop.ensure.v1.node-a", True),
        ("roost.commands", "read", "desktop.ensure.v1.node-b", False),
        ("roost.commands", "read", "desktop.ensure.v1.node-a.x", False),
        ("roost.commands", "read", "#", False),
        ("roost.commands", "read", "*.*.*.node-a", False),
        ("roost.events", "write", "domain.observed.v1", True),
        ("roost.events", "write", "migration.ended.v1", True),
        ("roost.events", "write", "host.down.v1", False),
        ("roost.events", "write", "host.fenced.v1", False),
        ("roost.events", "read", "session.requested.v1", False),
        ("roost.replies", "write", topology.reply_queue("broker", str(UUID(int=7))), True),
        ("roost.replies", "write", topology.reply_queue("inventory", str(UUID(int=7))), True),
        ("roost.replies", "write", topology.reply_queue("imaging", str(UUID(int=7))), False),
        ("roost.replies", "write", "roost.inventory", False),
        ("roost.replies", "write", "roost.host-agent.node-b", False),
        ("roost.telemetry", "write", "host.beat.v1", True),
        ("roost.telemetry", "write", "migration.progress.v1", True),
        ("roost.telemetry", "write", "monitor.beat.v1", False),
        ("roost.telemetry", "write", "lease.granted.v1.node-a", False),
        ("roost.telemetry", "read", "lease.granted.v1.node-a", True),
        ("roost.telemetry", "read", "lease.granted.v1.node-b", False),
        ("roost.telemetry", "read", "lease.granted.v1.#", False),
        ("roost.telemetry", "read", "host.beat.v1", False),
        ("roost.telemetry", "read", "#", False),
    ],
)
def test_an_agents_routing_keys(
    definitions: Definitions, exchange: str, verb: str, key: str, allowed: bool
) -> None:
    assert may_topic(definitions, "roost-agent-node-a", exchange, verb, key) is allowed


def test_a_service_asks_agents_and_keeps_to_its_own_queues(definitions: Definitions) -> None:
    user = "roost-inventory"
    assert may(definitions, user, "write", "amq.default")
    assert not may(definitions, "roost-ha-monitor", "write", "amq.default")
    assert may(definitions, user, "configure", "roost.inventory.telemetry")
    assert may(definitions, user, "read", "roost.inventory")
    assert not may(definitions, user, "read", "roost.ha-monitor")
    assert not may(definitions, user, "configure", "roost.inventory-x")


def test_a_service_hears_the_answers_to_itself_alone(definitions: Definitions) -> None:
    user, replies = "roost-inventory", topology.REPLIES
    own = topology.reply_queue("inventory", str(UUID(int=7)))
    assert may(definitions, user, "read", replies)
    assert may_topic(definitions, user, replies, "read", own)
    for key in ("#", "roost.inventory.replies.*", own.replace("inventory", "broker")):
        assert not may_topic(definitions, user, replies, "read", key)


def test_a_vhost_and_odd_passwords_survive_in_an_address() -> None:
    assert amqp_url("h", 1, "a@b", "p/w:d", "/") == "amqp://a%40b:p%2Fw%3Ad@h:1/%2F"
