"""Those who are told: a mail server, a web server, a receiver of SNMP notifications. Real ones."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config, engine
from pysnmp.entity.rfc3413 import ntfrcv
from pysnmp.proto.api import v2c

LOGIN = LoginPassword(b"roost", b"s3cr3t-password")


class MailServer:
    """Takes mail, or answers what it is told to."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.answer = "250 OK"
        self.port = 0

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            mail = message_from_bytes(envelope.content, policy=policy.default)
            self.mails.append(mail)
            self.envelopes.append(envelope)
        return self.answer

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[MailServer]:
        """With TLS it wants STARTTLS and a password."""

        def login(*arguments: Any) -> AuthResult:
            given = arguments[-1]
            return AuthResult(success=given == LOGIN, handled=False)

        def session() -> SMTP:
            return SMTP(
                self,
                hostname="mail.test",
                tls_context=tls,
                require_starttls=tls is not None,
                auth_required=tls is not None,
                authenticator=login,
                loop=asyncio.get_running_loop(),
            )

        server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


def certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the PEM that vouches for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, pem.decode()


class Request:
    """One POST as it came."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path, self.headers, self.body = path, headers, body

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


class WebServer:
    """Takes POST, answers with ``status``; hangs while ``open`` is not set."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = 204
        self.location: str | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.port = 0

    @property
    def events(self) -> list[dict[str, Any]]:
        return [request.event for request in self.requests]

    def told(self) -> list[tuple[str, str]]:
        return [(event["type"], event["subject"]) for event in self.events]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append(Request(head[0].split()[1], headers, body))
            await self.open.wait()
            place = f"Location: {self.location}\r\n" if self.location else ""
            answer = f"HTTP/1.1 {self.status} Said\r\n{place}Content-Length: 0\r\n"
            writer.write(f"{answer}Connection: close\r\n\r\n".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WebServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.open.set()
            server.close()

    @property
    def target(self) -> dict[str, Any]:
        return {"kind": "webhook", "url": f"http://127.0.0.1:{self.port}/in/s3cr3t-path"}


class TrapReceiver:
    """An SNMP manager that knows the community ``public`` and the SNMPv3 user ``roost``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[dict[str, Any]] = []
        self._engine: Any = None

    @asynccontextmanager
    async def running(self, *senders: str) -> AsyncIterator[TrapReceiver]:
        """``senders``: engine ids in hex from which SNMPv3 traps are taken."""
        self._engine = engine.SnmpEngine()
        transport = udp.UdpTransport().open_server_mode(("127.0.0.1", self.port))
        config.add_transport(self._engine, udp.DOMAIN_NAME, transport)
        config.add_v1_system(self._engine, "area", "public")
        for sender in (None, *senders):
            config.add_v3_user(
                self._engine,
                "roost",
                config.USM_AUTH_HMAC192_SHA256,
                "s3cr3t-auth",
                config.USM_PRIV_CFB128_AES,
                "s3cr3t-priv",
                securityEngineId=None if sender is None else v2c.OctetString(hexValue=sender),
            )
        ntfrcv.NotificationReceiver(self._engine, self._hear)
        try:
            yield self
        finally:
            self._engine.close_dispatcher()

    def _hear(self, _engine: Any, _ref: Any, _id: Any, _name: Any, varbinds: Any, _: Any) -> None:
        self.heard.append(
            {
                str(oid): bytes(value) if isinstance(value, v2c.OctetString) else str(value)
                for oid, value in varbinds
            }
        )
