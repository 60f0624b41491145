"""The contracts' documents are what the code says, and the messages keep the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost_common.contracts.base import (
    REGISTRY,
    Event,
    Message,
    NodeCommand,
    NodeTelemetry,
    Query,
)
from roost_common.contracts.catalogue import all_messages
from roost_common.contracts.documents import address, differences, documents, write
from roost_common.topology import routing_key

DOCS = Path(__file__).parents[2] / "docs"


def test_the_checked_in_documents_are_those_of_the_code() -> None:
    assert differences(DOCS) == []


def test_a_changed_or_stray_document_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    assert differences(tmp_path) == []
    (tmp_path / "schemas" / "old.name.v1.json").write_text("{}")
    (tmp_path / "events.md").write_text("something else")
    (tmp_path / "asyncapi.yaml").unlink()
    assert {line.split(":")[0] for line in differences(tmp_path)} == {
        "schemas/old.name.v1.json",
        "events.md",
        "asyncapi.yaml",
    }


def test_the_documented_address_is_the_routing_key() -> None:
    for message in all_messages():
        if not issubclass(message, Query):
            to_a_node = issubclass(message, NodeCommand | NodeTelemetry)
            key = routing_key(message.model_construct(), "{node}" if to_a_node else None)
            assert address(message) == key


def test_every_message_is_documented() -> None:
    files = documents()
    for message in all_messages():
        assert f"schemas/{message.name}.json" in files
        assert f"`{message.name}`" in files["events.md"]


@pytest.mark.parametrize("message", all_messages(), ids=lambda m: m.name)
def test_a_message_says_what_it_means(message: type[Message]) -> None:
    assert message.__doc__
    assert message.model_config.get("frozen")


def test_two_messages_cannot_have_one_name() -> None:
    with pytest.raises(TypeError, match="two message classes"):

        class Again(Event, name="host.up.v1"):
            """A name that is taken."""

    assert REGISTRY["host.up.v1"].__name__ == "HostUp"


def test_a_name_has_its_form() -> None:
    with pytest.raises(TypeError, match=r"noun\.verb\.vN"):

        class Odd(Event, name="HostUp"):
            """A name without a version."""
