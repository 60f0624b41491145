"""Where a channel leads. What is secret in it is sealed before it reaches the database."""

from __future__ import annotations

import re
import ssl
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

import httpx
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    field_validator,
    model_validator,
)

from roost_common.http import ApiModel

_ADDRESS: Final = re.compile(r"^[^\s@<>,;:\"()\\]{1,64}@[A-Za-z0-9.\-\[\]:]{1,255}$")
_HOST: Final = re.compile(r"^[A-Za-z0-9._:\-]+$")


class Kind(StrEnum):
    """How a channel tells."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    SNMP = "snmp"


def _address(text: str) -> str:
    if not _ADDRESS.match(text):
        raise ValueError("this is no mail address: local-part@domain")
    return text


def _certificates(text: str | None) -> str | None:
    if text is not None:
        try:
            ssl.create_default_context(cadata=text)
        except ssl.SSLError:
            raise ValueError("these are no certificates in PEM") from None
    return text


Address = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, Field(max_length=253, pattern=_HOST.pattern)]
Port = Annotated[int, Field(ge=1, le=65535)]
Certificates = Annotated[
    str | None,
    Field(max_length=65536, description="PEM, trusted instead of the machine's authorities"),
    AfterValidator(_certificates),
]
Passphrase = Annotated[SecretStr, Field(min_length=8, max_length=255)]
"""USM wants eight characters at least (RFC 3414, 11.2)."""


class Target(ApiModel):
    """Where a channel leads."""

    model_config = ConfigDict(hide_input_in_errors=True)

    SECRETS: ClassVar[tuple[str, ...]] = ()
    """Fields that never leave again."""

    @property
    def destination(self) -> tuple[object, ...]:
        """To whom the secrets are shown; they are not kept when it changes."""
        return ()

    def public(self) -> dict[str, Any]:
        """What may be seen."""
        return self.model_dump(mode="json", exclude=set(self.SECRETS))

    def secrets(self) -> dict[str, str]:
        """What may not."""
        given = ((name, getattr(self, name)) for name in self.SECRETS)
        return {name: value.get_secret_value() for name, value in given if value is not None}


class EmailTarget(Target):
    """A mail server and who is to get the mail."""

    SECRETS: ClassVar[tuple[str, ...]] = ("password",)

    kind: Literal[Kind.EMAIL]
    host: Host
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: Annotated[str | None, Field(max_length=255)] = None
    password: Annotated[SecretStr | None, Field(max_length=1024)] = None
    sender: Address
    recipients: Annotated[list[Address], Field(min_length=1, max_length=50)]
    ca: Certificates = None

    @property
    def destination(self) -> tuple[object, ...]:
        return (self.host, self.port, self.security, self.username, self.ca)

    @model_validator(mode="after")
    def _password_is_covered(self) -> EmailTarget:
        if self.username is not None and self.security == "none":
            raise ValueError("a password is only sent over TLS: set security")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        return self


class WebhookTarget(Target):
    """An address that takes POST."""

    # Chat services put their password into the path.
    SECRETS: ClassVar[tuple[str, ...]] = ("url", "secret")

    kind: Literal[Kind.WEBHOOK]
    url: Annotated[SecretStr, Field(max_length=2000, description="Shown without its path")]
    secret: Annotated[
        SecretStr | None,
        Field(min_length=16, max_length=1024, description="Signs bodies with HMAC-SHA256"),
    ] = None
    ca: Certificates = None

    @field_validator("url")
    @classmethod
    def _only_http(cls, value: SecretStr) -> SecretStr:
        try:
            url = httpx.URL(value.get_secret_value())
        except (httpx.InvalidURL, ValueError):
            raise ValueError("this is no address") from None
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise ValueError("an http or https address without user name is needed")
        return value

    def public(self) -> dict[str, Any]:
        url = httpx.URL(self.url.get_secret_value())
        hidden = "" if url.raw_path in (b"", b"/") else "/…"
        shown = f"{url.scheme}://{url.netloc.decode()}{hidden}"
        return super().public() | {"url": shown}


class SnmpTarget(Target):
    """A receiver of SNMP notifications."""

    SECRETS: ClassVar[tuple[str, ...]] = ("community", "auth_key", "priv_key")

    kind: Literal[Kind.SNMP]
    host: Host
    port: Port = 162
    version: Literal["2c", "3"] = "3"
    inform: Annotated[
        bool, Field(description="Wait for the receiver's answer; a trap is lost without a word")
    ] = True
    community: Annotated[SecretStr | None, Field(min_length=1, max_length=255)] = None
    user: Annotated[str | None, Field(min_length=1, max_length=32)] = None
    auth_protocol: Literal["sha", "sha256", "sha512"] = "sha256"
    auth_key: Passphrase | None = None
    priv_protocol: Literal["aes128", "aes256"] = "aes128"
    priv_key: Passphrase | None = None

    @property
    def destination(self) -> tuple[object, ...]:
        return (self.host, self.port, self.version, self.user)

    @model_validator(mode="after")
    def _fits_the_version(self) -> SnmpTarget:
        if self.version == "2c" and (self.user or self.auth_key or self.priv_key):
            raise ValueError("version 2c has a community alone")
        if self.version == "3" and (self.community is not None or self.user is None):
            raise ValueError("version 3 has a user, and no community")
        return self


AnyTarget = Annotated[EmailTarget | WebhookTarget | SnmpTarget, Field(discriminator="kind")]
TARGET: Final[TypeAdapter[EmailTarget | WebhookTarget | SnmpTarget]] = TypeAdapter(AnyTarget)


def missing_secret(target: Target) -> str | None:
    """Which secret a whole target still needs, checked once the kept ones are in."""
    if isinstance(target, EmailTarget) and target.username and target.password is None:
        return "password"
    if isinstance(target, SnmpTarget):
        if target.version == "2c" and target.community is None:
            return "community"
        if target.version == "3" and target.auth_key is None:
            return "auth_key"
    return None


def engine_id(channel_id: UUID) -> bytes:
    """The SNMPv3 engine that speaks for a channel, the same in every copy (RFC 3411, 5).

    The enterprise 32473 with the highest bit set, format 5 (octets), the channel's id.
    """
    return bytes.fromhex("80007ed905") + channel_id.bytes
