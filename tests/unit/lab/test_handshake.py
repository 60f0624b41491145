"""The SPICE link messages, byte by byte, and a server that answers them."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from roost_lab import handshake
from roost_lab.handshake import SpiceError


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    # SPICE_TICKET_KEY_PAIR_LENGTH is 1024 in spice-protocol.
    return rsa.generate_private_key(65537, 1024)


def reply(key: rsa.RSAPrivateKey, *, error: int = 0, common: int = 0b1011) -> bytes:
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert len(der) == 162  # SPICE_TICKET_PUBKEY_BYTES
    return struct.pack("<I162sIII", error, der, 1, 0, 178) + struct.pack("<I", common)


def test_the_link_message_is_the_protocols() -> None:
    assert handshake.link_message().hex() == (
        "52454451"  # REDQ
        "02000000"
        "02000000"  # version 2.2
        "16000000"  # 22 bytes follow
        "00000000"
        "01"
        "00"  # a new session, main channel 0
        "01000000"
        "00000000"
        "12000000"  # one word of common capabilities, at 18
        "0b000000"  # auth selection, SPICE auth, mini header
    )


def test_a_reply_gives_key_and_capabilities(key: rsa.RSAPrivateKey) -> None:
    public, common = handshake.link_reply(reply(key))
    assert public.public_numbers() == key.public_key().public_numbers()
    assert common == 0b1011


def test_a_refusal_says_why(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(SpiceError, match="wants TLS"):
        handshake.link_reply(reply(key, error=5))


@pytest.mark.parametrize("cut", [0, 10, 177, 181])
def test_a_reply_cut_short_is_refused(key: rsa.RSAPrivateKey, cut: int) -> None:
    with pytest.raises(SpiceError, match=r"short|outside"):
        handshake.link_reply(reply(key)[:cut])


def test_the_ticket_is_the_password_with_its_zero(key: rsa.RSAPrivateKey) -> None:
    ticket = handshake.encrypted_ticket(key.public_key(), "secret")
    assert len(ticket) == 128
    assert decrypt(key, ticket) == b"secret\0"


def decrypt(key: rsa.RSAPrivateKey, ticket: bytes) -> bytes:
    return key.decrypt(ticket, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))


# Eight channels: two displays, inputs, cursor, playback, record, two usbredir.
CHANNELS = bytes.fromhex("08000000 0200 0201 0300 0400 0500 0600 0900 0901")


def test_the_list_of_channels_is_counted_by_kind() -> None:
    assert handshake.channels_list(CHANNELS) == {
        "display": 2,
        "inputs": 1,
        "cursor": 1,
        "playback": 1,
        "record": 1,
        "usbredir": 2,
    }
    assert handshake.channels_list(bytes.fromhex("01000000 6300")) == {"type 99": 1}
    assert handshake.channels_list(bytes(4)) == {}


@pytest.mark.parametrize("body", [b"", CHANNELS[:3], CHANNELS[:-1], CHANNELS + b"\0"])
def test_a_list_of_another_length_is_refused(body: bytes) -> None:
    with pytest.raises(SpiceError, match="list of channels"):
        handshake.channels_list(body)


def serve(server: socket.socket, key: rsa.RSAPrivateKey, password: str) -> None:
    """As much of a SPICE server as one main channel needs."""
    magic, _, _, size = struct.unpack("<4sIII", server.recv(16, socket.MSG_WAITALL))
    assert magic == b"REDQ"
    server.recv(size, socket.MSG_WAITALL)
    body = reply(key)
    server.sendall(struct.pack("<4sIII", b"REDQ", 2, 2, len(body)) + body)
    assert server.recv(4, socket.MSG_WAITALL) == struct.pack("<I", 1)
    ticket = decrypt(key, server.recv(128, socket.MSG_WAITALL))
    if ticket != password.encode() + b"\0":
        server.sendall(struct.pack("<I", 7))
        return
    server.sendall(struct.pack("<I", 0))
    server.sendall(struct.pack("<HI", 4, 3) + b"abc")  # something else comes first
    server.sendall(struct.pack("<HI", 103, 32) + struct.pack("<8I", 42, 2, 3, 1, 1, 10, 0, 0))
    # Only to who asks: message 104 without a body.
    assert server.recv(6, socket.MSG_WAITALL) == struct.pack("<HI", 104, 0)
    server.sendall(struct.pack("<HI", 4, 3) + b"abc")
    server.sendall(struct.pack("<HI", 104, len(CHANNELS)) + CHANNELS)


@pytest.fixture
def link(key: rsa.RSAPrivateKey) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs, key, "secret"))
    thread.start()
    with ours, theirs:
        ours.settimeout(5)
        yield ours
        thread.join(5)


def test_a_right_ticket_opens_the_main_channel(link: socket.socket) -> None:
    screen = handshake.open_main_channel(link, "secret")
    assert (screen.session_id, screen.display_channels, screen.agent_connected) == (42, 2, True)
    assert screen.channels == handshake.channels_list(CHANNELS)


def test_a_wrong_ticket_is_refused(link: socket.socket) -> None:
    with pytest.raises(SpiceError, match="ticket"):
        handshake.open_main_channel(link, "other")


def test_what_is_no_spice_server_is_said() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(SpiceError, match="no SPICE server"):
            handshake.open_main_channel(ours, "x")
