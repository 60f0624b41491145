"""What a fence agent says of itself: its parameters and actions.

The format is ClusterLabs' ``metadata.rng``, the same as of OCF resource agents. It does not say
which parameters are secret: those are told by their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

NEEDED_ACTIONS: Final = frozenset({"off", "status"})
_NAME: Final = re.compile(r"^[a-zA-Z][a-zA-Z0-9_-]{0,63}$")
_SECRET: Final = re.compile(
    r"pass(wd|word|phrase)?|secret|token|key|community|credential|cookie|pin$", re.IGNORECASE
)
_OURS: Final = re.compile(r"^(action|option|agent|nodename|help|version|quiet|verbose.*)$")
"""Parameters that Roost sets itself, or that would have the agent print what it was given."""
_HARMFUL: Final = re.compile(r"(_script|_path|_file)$|^debug|^ssh_options$|^sudo")
"""Parameters that name a program to be run or a file to be written on ha-monitor's machine: who
may set up a fence device may not by that run what they like there."""
_READ_FILES: Final = frozenset({"identity_file", "ssl_ca_file"})
"""These end like the harmful ones and are only read."""


@dataclass(frozen=True)
class Metadata:
    """An agent's parameters, with ``_`` for ``-``, and actions."""

    parameters: Mapping[str, str]
    """Name to type: string, boolean, integer, second, select."""
    actions: frozenset[str]

    def problem(self, options: Mapping[str, str]) -> str | None:
        """Why the agent cannot be used with these, in words that name no value."""
        missing = NEEDED_ACTIONS - self.actions
        if missing:
            return f"It cannot do {' and '.join(sorted(missing))}."
        for name, value in options.items():
            normal = normalised(name)
            if not _NAME.match(name) or normal not in self.parameters:
                return f"It has no parameter {name[:64]!r}."
            if _OURS.match(normal):
                return f"{name!r} is set by Roost."
            if _HARMFUL.search(normal) and normal not in _READ_FILES:
                return f"{name!r} may not be set: it names a program or a file of this machine."
            if not value.isprintable():
                return f"The value of {name!r} has more than one line, or control characters."
        return None


def normalised(name: str) -> str:
    """A parameter's name as the metadata has it; agents take both forms."""
    return name.lower().replace("-", "_")


def is_secret(name: str) -> bool:
    """Whether a parameter's value is never shown."""
    return _SECRET.search(name) is not None


def parse(text: str) -> Metadata:
    """Raises ValueError for what is no metadata."""
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - a program of this machine wrote it
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    if root.tag != "resource-agent":
        raise ValueError("not a resource agent's metadata")
    parameters = {}
    for parameter in root.iterfind("parameters/parameter"):
        content = parameter.find("content")
        kind = "string" if content is None else content.get("type", "string")
        parameters[normalised(parameter.get("name", ""))] = kind
    actions = frozenset(action.get("name", "") for action in root.iterfind("actions/action"))
    return Metadata(parameters, actions)
