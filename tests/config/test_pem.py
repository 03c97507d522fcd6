"""The certificate of the callers' listener: kept in memory, and unchanged if a new one is unusable."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from gateway.config.files import Files
from gateway.config.listener import TlsConfig
from gateway.config.pem import PemFile, load_certificate, read_certificate


@pytest.fixture
def tls(tmp_path: Path) -> TlsConfig:
    """Return the settings of a certificate and its key in files."""
    issued = trustme.CA().issue_cert("localhost")
    (tmp_path / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    return TlsConfig(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


def test_a_certificate_is_usable_after_its_files_are_gone(tls: TlsConfig) -> None:
    kept = read_certificate(tls, Files())
    assert isinstance(kept.cert, PemFile)
    assert (str(kept.cert), str(kept.key)) == (tls.cert, tls.key)
    for path in (tls.cert, tls.key):
        Path(path).unlink()
    load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), kept)


def test_a_certificate_can_be_loaded_from_its_files(tls: TlsConfig) -> None:
    load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls)


def test_a_key_of_another_certificate_is_an_error(tls: TlsConfig) -> None:
    Path(tls.key).write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(ssl.SSLError):
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), read_certificate(tls, Files()))


def test_a_missing_file_is_an_error(tls: TlsConfig) -> None:
    Path(tls.key).unlink()
    with pytest.raises(OSError, match="No such file"):
        read_certificate(tls, Files())
