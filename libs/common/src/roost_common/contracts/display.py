"""The screen of a running desktop: questions to the agent of its node."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field, SecretStr, field_serializer

from roost_common.contracts.base import Body, Query
from roost_common.contracts.desktop import SpiceAddress

MAX_PASSWORD_LENGTH = 60
"""SPICE_MAX_PASSWORD_LENGTH in spice-protocol's spice/protocol.h."""


class DisplayTicket(Body):
    """A screen, opened: where it is and the password that opens it once more for seconds."""

    boot_id: UUID
    spice: SpiceAddress
    password: SecretStr
    valid_s: int
    ca: str = Field(default="", description="PEM of the authority that signed the node's key")
    host_subject: str = Field(default="", description="Subject of the node's certificate")

    @field_serializer("password", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class OpenDisplay(Query, name="display.open.v1"):
    """Set a fresh SPICE password, valid for ``valid_s`` seconds, and cut off whoever is connected.

    Errors: ``desktop.not-running`` when the desktop, or this run of it, is not there any more.
    """

    answer: ClassVar[type[Body]] = DisplayTicket

    desktop_id: UUID
    boot_id: UUID = Field(description="The run that is meant; another run is refused")
    valid_s: int = Field(default=30, ge=1, le=60)

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class Done(Body):
    """An answer that only says that it was done."""


class CloseDisplay(Query, name="display.close.v1"):
    """Make the password worthless and cut off whoever is connected."""

    answer: ClassVar[type[Body]] = Done

    desktop_id: UUID
    boot_id: UUID

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class RebootDesktop(Query, name="desktop.reboot.v1"):
    """Restart the guest inside its domain: ask it, or with ``force`` press reset."""

    answer: ClassVar[type[Body]] = Done

    desktop_id: UUID
    force: bool = False

    @property
    def subject(self) -> str:
        return str(self.desktop_id)
