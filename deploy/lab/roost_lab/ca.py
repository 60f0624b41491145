"""The lab's own certification authority, and the certificates of the front and the nodes."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roost_lab.secrets import write_private

ORGANISATION = "Roost lab"
_LIFE = datetime.timedelta(days=825)
"""The longest that every TLS client still accepts for a server's certificate."""
_RENEW = datetime.timedelta(days=30)


def host_subject(common_name: str) -> str:
    """The subject of a certificate of this authority, as SPICE's ``host-subject`` writes it."""
    return f"O={ORGANISATION},CN={common_name}"


class Authority:
    """A certification authority in one directory; made on first use."""

    def __init__(self, directory: Path) -> None:
        self.certificate_file = directory / "ca.pem"
        self._key_file = directory / "ca-key.pem"
        if not _lives(self.certificate_file) or not self._key_file.exists():
            self._make()
        self._key = _load_key(self._key_file)
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def _make(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        name = _name("Roost lab authority")
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        write_private(self._key_file, _pem(key))
        self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, certificate_file: Path, key_file: Path, common_name: str, *alternatives: str
    ) -> bool:
        """Make a server's certificate for these host names and addresses, where none is fit.

        True when a new one was made.
        """
        if key_file.exists() and self._fits(certificate_file, common_name, alternatives):
            return False
        key = rsa.generate_private_key(65537, 2048)
        certificate = (
            _builder(_name(common_name), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in alternatives]),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        write_private(key_file, _pem(key))
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return True

    def _fits(self, path: Path, common_name: str, alternatives: tuple[str, ...]) -> bool:
        if not _lives(path):
            return False
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            certificate.subject == _name(common_name)
            and list(names) == [_general_name(name) for name in alternatives]
            and self._signed(certificate)
        )

    def _signed(self, certificate: x509.Certificate) -> bool:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        return found == identifier


def _lives(path: Path) -> bool:
    if not path.exists():
        return False
    until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return until - _RENEW > datetime.datetime.now(datetime.UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A clock that is a little behind still accepts it.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_encipherment=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        # QEMU's SPICE server and nginx both read PKCS #8.
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _load_key(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path} holds no RSA key")
    return key
