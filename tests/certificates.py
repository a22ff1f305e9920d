"""Certificates as the field has them: of old private authorities, expired, of another name, self-signed."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconcile.net.http_client import certificate_digest


@frozen
class Certificate:
    """A certificate and its key. `issuer`: itself where it is self-signed."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def digest(self) -> str:
        return certificate_digest(self.der)

    def write(self, path: Path) -> Path:
        """The certificate alone, in PEM form."""
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def serves(self, folder: Path) -> ssl.SSLContext:
        """A server's side of TLS with it."""
        both = folder / f"{self.digest}.pem"
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        both.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM) + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context


def make(
    name: str = "127.0.0.1",
    *,
    issuer: Certificate | None = None,
    is_authority: bool = False,
    from_days: float = -1,
    to_days: float = 365,
) -> Certificate:
    """A certificate without key identifiers, as old private authorities issue them, which is valid for so many days
    from now; self-signed without an `issuer`. An address stands in its name as an address, an empty name nowhere."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or "nameless")])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=from_days))
        .not_valid_after(now + timedelta(days=to_days))
    )
    if is_authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    elif name:
        try:
            general: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            general = x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([general]), critical=False)
    return Certificate(builder.sign(key if issuer is None else issuer.key, hashes.SHA256()), key)
