"""A real SPICE link: TLS, the ticket, and what the main channel says first.

Only as much of the protocol as proves that a desktop's screen opens with a ticket. Sources:
spice-protocol's ``spice/protocol.h`` (link messages, capabilities, error codes) and
``spice/enums.h`` (message numbers).
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

MAGIC: Final = b"REDQ"
VERSION: Final = (2, 2)
MAIN_CHANNEL: Final = 1
AUTH_SELECTION: Final = 0
AUTH_SPICE: Final = 1
MINI_HEADER: Final = 3
"""Bits of the common capabilities (SPICE_COMMON_CAP_…)."""
MAIN_INIT: Final = 103
"""SPICE_MSG_MAIN_INIT."""
MAIN_CHANNELS_LIST: Final = 104
"""SPICE_MSG_MAIN_CHANNELS_LIST."""
ATTACH_CHANNELS: Final = 104
"""SPICE_MSGC_MAIN_ATTACH_CHANNELS."""
CHANNELS: Final = {
    1: "main",
    2: "display",
    3: "inputs",
    4: "cursor",
    5: "playback",
    6: "record",
    7: "tunnel",
    8: "smartcard",
    9: "usbredir",
    10: "port",
    11: "webdav",
}
"""SPICE_CHANNEL_…: the kinds of channels."""
_HEADER: Final = struct.Struct("<4sIII")
_MESSAGE: Final = struct.Struct("<IBBIII")
_REPLY: Final = struct.Struct("<I162sIII")
_MINI: Final = struct.Struct("<HI")
_INIT: Final = struct.Struct("<IIIIIIII")
_ERRORS: Final = {
    1: "error",
    2: "invalid magic",
    3: "invalid data",
    4: "version mismatch",
    5: "the server wants TLS",
    6: "the server wants no TLS",
    7: "permission denied: wrong or outdated ticket",
    8: "bad connection id",
    9: "channel not available",
}


class SpiceError(Exception):
    """The SPICE server refused, or did not speak SPICE."""


@dataclass(frozen=True)
class Screen:
    """What the main channel says when it opens."""

    session_id: int
    display_channels: int
    agent_connected: bool
    channels: Counter[str]
    """How many channels of each kind the server offers, by the names in `CHANNELS`."""


def link_message(connection_id: int = 0, channel: int = MAIN_CHANNEL) -> bytes:
    """SpiceLinkHeader and SpiceLinkMess for one channel, with the capabilities used here."""
    common = 1 << AUTH_SELECTION | 1 << AUTH_SPICE | 1 << MINI_HEADER
    body = _MESSAGE.pack(connection_id, channel, 0, 1, 0, _MESSAGE.size)
    body += struct.pack("<I", common)
    return _HEADER.pack(MAGIC, *VERSION, len(body)) + body


def link_reply(body: bytes) -> tuple[rsa.RSAPublicKey, int]:
    """The server's public key and its common capabilities out of a SpiceLinkReply."""
    if len(body) < _REPLY.size:
        raise SpiceError("the link reply is too short")
    error, key, common, channel, offset = _REPLY.unpack_from(body)
    if error:
        raise SpiceError(f"link refused: {_ERRORS.get(error, error)}")
    if offset + 4 * (common + channel) > len(body):
        raise SpiceError("the link reply's capabilities lie outside of it")
    words = struct.unpack_from(f"<{common}I", body, offset) if common else (0,)
    public = serialization.load_der_public_key(key)
    if not isinstance(public, rsa.RSAPublicKey):
        raise SpiceError("the server's ticket key is not RSA")
    return public, words[0]


def encrypted_ticket(key: rsa.RSAPublicKey, password: str) -> bytes:
    """The password with its terminating zero, RSA-OAEP with SHA-1 as the protocol fixes it."""
    sha1 = hashes.SHA1()
    scheme = padding.OAEP(padding.MGF1(sha1), sha1, None)
    return key.encrypt(password.encode() + b"\0", scheme)


def channels_list(body: bytes) -> Counter[str]:
    """How many channels of each kind a SpiceMsgChannels names: a count, then type and id each."""
    (count,) = struct.unpack_from("<I", body) if len(body) >= 4 else (0,)
    kinds = body[4::2]
    if len(body) != 4 + 2 * count:
        raise SpiceError("the list of channels is not as long as it says")
    return Counter(CHANNELS.get(kind, f"type {kind}") for kind in kinds)


def open_main_channel(stream: socket.socket, password: str) -> Screen:
    """Link the main channel over a connected stream and ask it which channels there are."""
    stream.sendall(link_message())
    magic, major, _, size = _HEADER.unpack(_read(stream, _HEADER.size))
    if magic != MAGIC or major != VERSION[0]:
        raise SpiceError("this is no SPICE server of version 2")
    key, capabilities = link_reply(_read(stream, size))
    if capabilities >> AUTH_SELECTION & 1:
        stream.sendall(struct.pack("<I", AUTH_SPICE))
    stream.sendall(encrypted_ticket(key, password))
    (result,) = struct.unpack("<I", _read(stream, 4))
    if result:
        raise SpiceError(_ERRORS.get(result, f"link error {result}"))
    if not capabilities >> MINI_HEADER & 1:
        raise SpiceError("the server does not know mini headers")
    session, displays, _, _, agent, *_ = _INIT.unpack_from(_wait_for(stream, MAIN_INIT))
    stream.sendall(_MINI.pack(ATTACH_CHANNELS, 0))
    channels = channels_list(_wait_for(stream, MAIN_CHANNELS_LIST))
    return Screen(session, displays, bool(agent), channels)


def open_screen(
    host: str,
    tls_port: int,
    password: str,
    ca: str,
    host_subject: str = "",
    *,
    timeout_s: float = 10,
) -> Screen:
    """Open a desktop's screen over TLS as a client would, and leave again.

    ``ca`` is PEM; the certificate must be signed by it, be for ``host`` and have the subject
    ``host_subject``. Raises `SpiceError`, or ``OSError`` where nobody answers.
    """
    context = ssl.create_default_context(cadata=ca)
    with (
        socket.create_connection((host, tls_port), timeout=timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host) as stream,
    ):
        subject = subject_of(stream)
        if host_subject and subject != host_subject:
            raise SpiceError(f"the certificate is for {subject!r}, not for {host_subject!r}")
        return open_main_channel(stream, password)


def subject_of(stream: ssl.SSLSocket) -> str:
    """The subject of the certificate that the server showed, as ``host-subject`` writes it."""
    certificate = x509.load_der_x509_certificate(stream.getpeercert(binary_form=True) or b"")
    parts = [part.rfc4514_string() for part in certificate.subject.rdns]
    return ",".join(parts)


def _wait_for(stream: socket.socket, wanted: int) -> bytes:
    """The body of the next message of one kind; others, as pings, are passed over."""
    while True:
        kind, size = _MINI.unpack(_read(stream, _MINI.size))
        body = _read(stream, size)
        if kind == wanted:
            return body


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise SpiceError("the server closed the connection")
        data += part
    return data
