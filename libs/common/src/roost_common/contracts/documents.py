"""Documents made from the message classes: JSON schemas, an AsyncAPI 3 document, events.md.

``python -m roost_common.contracts.documents DIR`` writes them; with ``--check`` it fails where
the files in DIR differ from the code.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from roost_common import topology
from roost_common.contracts.base import Kind, Message, NodeCommand, NodeTelemetry, Query
from roost_common.contracts.catalogue import all_messages

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(message: type[Message]) -> dict[str, Any]:
    """The JSON schema of a message's body."""
    body = message.model_json_schema(mode="serialization")
    for part in body.get("$defs", {}).values():
        # What people are refused a newer publisher may say: see `Body.read`.
        part.pop("additionalProperties", None)
    return {"$schema": DIALECT, "$id": f"{message.name}.json", **body}


def summary(message: type[Message]) -> str:
    """The first sentence or two of its docstring, on one line."""
    text = inspect.getdoc(message) or ""
    return " ".join(text.split("\n\n")[0].split())


def address(message: type[Message]) -> str:
    """The routing key under which it travels."""
    if issubclass(message, NodeCommand | NodeTelemetry):
        return f"{message.name}.{{node}}"
    if issubclass(message, Query):
        return "roost.host-agent.{node}.queries"
    return message.name


def exchange(message: type[Message]) -> str:
    """The exchange it is published to; the default exchange has no name."""
    return topology.EXCHANGE_OF.get(message.kind, "")


def asyncapi() -> dict[str, Any]:
    """An AsyncAPI 3.0 document of everything on the bus."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for message in all_messages():
        name = message.name
        messages[name] = {
            "name": name,
            "title": message.__name__,
            "summary": summary(message),
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventsHeaders"},
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": {"$ref": f"./schemas/{name}.json"},
            },
        }
        channel: dict[str, Any] = {
            "address": address(message),
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "bindings": {
                "amqp": {
                    "is": "routingKey",
                    "exchange": {
                        "name": exchange(message),
                        "type": "topic" if exchange(message) else "default",
                        "durable": True,
                        "vhost": "/",
                    },
                }
            },
        }
        if "{node}" in channel["address"]:
            channel["parameters"] = {"node": {"description": "Name of the node"}}
        channels[name] = channel
        operations[f"on.{name}"] = {
            "action": "send" if message.kind in (Kind.EVENT, Kind.TELEMETRY) else "receive",
            "channel": {"$ref": f"#/channels/{name}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Roost on the bus",
            "version": "1",
            "description": (
                "Events, commands, queries and telemetry of Roost over AMQP 0-9-1, as CloudEvents "
                "1.0 in binary mode. Delivery is at least once and in any order."
            ),
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": {"CloudEventsHeaders": _headers()}},
    }


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    required = ["id", "type", "source", "specversion", "time"]
    return {
        "type": "object",
        "properties": {
            "cloudEvents:id": {"type": "string", "format": "uuid"},
            "cloudEvents:type": text,
            "cloudEvents:source": text,
            "cloudEvents:specversion": {"type": "string", "const": "1.0"},
            "cloudEvents:time": {"type": "string", "format": "date-time"},
            "cloudEvents:subject": text,
            "roost-correlation-id": text,
            "roost-causation-id": {"type": "string", "format": "uuid"},
        },
        "required": [f"cloudEvents:{name}" for name in required],
    }


_TITLES = {
    Kind.EVENT: ("Events", "Facts. A subscriber binds its own queue to `roost.events`."),
    Kind.COMMAND: ("Commands", "What somebody wants done; one consumer each."),
    Kind.QUERY: ("Queries", "Questions to the agent of one node, with a deadline."),
    Kind.TELEMETRY: ("Telemetry", "Samples on `roost.telemetry`, transient."),
}


def events_markdown() -> str:
    """The catalogue for people."""
    lines = [
        "# What travels on the bus",
        "",
        "Made from the message classes by `make contracts`; do not edit. The full schemas are in",
        "`schemas/`, the machine-readable whole in `asyncapi.yaml`.",
        "",
    ]
    for kind, (title, text) in _TITLES.items():
        lines += [f"## {title}", "", text, "", "| name | meaning | fields |", "| --- | --- | --- |"]
        for message in all_messages():
            if message.kind is kind:
                fields = ", ".join(f"`{name}`" for name in message.model_fields)
                lines.append(f"| `{message.name}` | {_cell(summary(message))} | {fields} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def documents() -> dict[str, str]:
    """Every generated file: path below ``docs/`` and text."""
    files = {
        f"schemas/{message.name}.json": json.dumps(schema(message), indent=2) + "\n"
        for message in all_messages()
    }
    files["asyncapi.yaml"] = (
        "# Made from the message classes by `make contracts`; do not edit.\n"
        + yaml.safe_dump(asyncapi(), sort_keys=False, width=100)
    )
    files["events.md"] = events_markdown()
    return files


def differences(folder: Path) -> list[str]:
    """Which files in ``folder`` are not what the code would write, one line each."""
    wanted = documents()
    found = {
        str(path.relative_to(folder)) for path in folder.glob("schemas/*.json") if path.is_file()
    }
    lines = [f"{name}: no message has this schema" for name in sorted(found - set(wanted))]
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{name}: missing")
        elif path.read_text() != text:
            lines.append(f"{name}: differs from the code")
    return lines


def write(folder: Path) -> None:
    """Make ``folder`` what the code says."""
    wanted = documents()
    for path in folder.glob("schemas/*.json"):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main(argv: Iterable[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(None if argv is None else list(argv))
    if not arguments.check:
        write(arguments.folder)
        return 0
    lines = differences(arguments.folder)
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
