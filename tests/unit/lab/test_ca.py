"""The lab's authority, judged by the TLS library that will meet its certificates."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from roost_lab import handshake
from roost_lab.ca import Authority, host_subject


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def issue(authority: Authority, directory: Path, name: str, *alternatives: str) -> bool:
    return authority.issue(directory / "c.pem", directory / "k.pem", name, *alternatives)


def test_keys_are_their_owners_alone(authority: Authority, tmp_path: Path) -> None:
    issue(authority, tmp_path, "node-a", "10.77.0.11")
    for name in ("ca-key.pem", "k.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_fit_certificate_is_kept_and_an_unfit_one_replaced(
    authority: Authority, tmp_path: Path
) -> None:
    assert issue(authority, tmp_path, "node-a", "10.77.0.11")
    assert not issue(Authority(tmp_path), tmp_path, "node-a", "10.77.0.11")
    assert issue(authority, tmp_path, "node-a", "10.78.0.11")
    assert issue(authority, tmp_path, "node-b", "10.78.0.11")
    (tmp_path / "ca.pem").unlink()
    assert issue(Authority(tmp_path), tmp_path, "node-b", "10.78.0.11")


def test_a_strict_client_accepts_it_and_reads_its_subject(
    authority: Authority, tmp_path: Path
) -> None:
    issue(authority, tmp_path, "node-a", "127.0.0.1", "node-a")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, server.wrap_socket(theirs, server_side=True) as stream:
            stream.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with ours, client.wrap_socket(ours, server_hostname="127.0.0.1") as stream:
        assert handshake.subject_of(stream) == host_subject("node-a") == "O=Roost lab,CN=node-a"
        stream.sendall(b"x")
    thread.join(5)
