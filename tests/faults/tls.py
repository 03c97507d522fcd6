"""Certificates for fault upstreams: a valid one, and one for each TLS fault."""

from __future__ import annotations

import datetime
import ssl
import warnings
from pathlib import Path
from typing import Literal

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TlsFault = Literal["good", "expired", "wrong_host", "self_signed", "tls10", "stall"]
"""`stall` accepts connections and sends nothing. `tls10` has a valid certificate but supports only TLS 1.0."""

TLS_FAULTS: tuple[TlsFault, ...] = ("expired", "wrong_host", "self_signed", "tls10", "stall")


class Certificates:
    """A certificate authority, its PEM file (`ca`) and a server context for each fault, for 127.0.0.1 and localhost."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))

    def server_context(self, fault: TlsFault = "good") -> ssl.SSLContext:
        """Return the TLS context of a server with this fault."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if fault == "self_signed":
            path = self.directory / "self-signed.pem"
            path.write_bytes(_self_signed())
            context.load_cert_chain(path)
            return context
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        names = ("elsewhere.invalid",) if fault == "wrong_host" else ("127.0.0.1", "localhost")
        if fault == "expired":
            issued = self.authority.issue_cert(*names, not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday)
        else:
            issued = self.authority.issue_cert(*names)
        issued.configure_cert(context)
        if fault == "tls10":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the test needs the deprecated version
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context


def _self_signed() -> bytes:
    """Return the key and the self-signed certificate of a server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(serialization.Encoding.PEM)
