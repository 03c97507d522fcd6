"""Client certificates: an upstream that requires one gets it, from either transport, and files that do not fit are refused."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.load import ConfigError, parse
from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.tls import ALERTS, alert_of
from gateway.upstream.transport import Origin, TlsFiles, Transport, UpstreamError
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream
from tests.upstream.conftest import BRISK, request_for


class MutualCertificates(Certificates):
    """Certificates whose server contexts require a client certificate of the same authority."""

    def server_context(self, fault: object = "good") -> ssl.SSLContext:
        context = super().server_context()
        context.verify_mode = ssl.CERT_REQUIRED
        self.authority.configure_trust(context)
        return context

    def issue_client(self, name: str = "client") -> tuple[Path, Path]:
        """Write a client certificate and its key, and return their paths."""
        issued = self.authority.issue_cert("gateway@example.invalid")
        cert, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return cert, key


@pytest.mark.parametrize("new", [NativeTransport, HttpxTransport])
async def test_an_upstream_that_requires_a_client_certificate_gets_it(new: type[Transport], tmp_path: Path) -> None:
    certificates = MutualCertificates(tmp_path)
    cert, key = certificates.issue_client()
    transport = new()
    async with FaultUpstream(tls="good", certificates=certificates) as up:
        with_certificate = Origin("https", "127.0.0.1", up.port, tls=TlsFiles(str(certificates.ca), str(cert), str(key)))
        response = await transport.send(with_certificate, request_for(), BRISK)
        assert response.status == 200
        response.close()
        without = Origin("https", "127.0.0.1", up.port, tls=TlsFiles(str(certificates.ca)))
        with pytest.raises(UpstreamError):
            await transport.send(without, request_for(), BRISK)
        await transport.aclose()  # type: ignore[attr-defined]
        assert len(up.requests) == 1


@contextlib.contextmanager
def alerting_server(certificates: MutualCertificates) -> Iterator[int]:
    """Run a TLS server that takes one connection, and yield its port. Unlike asyncio's servers, it sends alerts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            with certificates.server_context().wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as tls:
                with contextlib.suppress(ssl.SSLError):
                    tls.do_handshake()
                while os.read(tls.fileno(), 65536):  # a socket that is closed with unread data would lose the alert
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("new", [NativeTransport, HttpxTransport])
async def test_alert_for_a_missing_client_certificate_says_what_is_missing(new: type[Transport], tmp_path: Path) -> None:
    certificates = MutualCertificates(tmp_path)
    transport = new()
    with alerting_server(certificates) as port:
        with pytest.raises(UpstreamError) as refused:
            await transport.send(Origin("https", "127.0.0.1", port, tls=TlsFiles(str(certificates.ca))), request_for(), BRISK)
        await transport.aclose()  # type: ignore[attr-defined]
    assert refused.value.kind == "tls"
    assert "requires a client certificate" in refused.value.message
    assert "client_certificate" in refused.value.message


def test_alerts_have_their_meaning_and_other_errors_have_none() -> None:
    def error(reason: str) -> ssl.SSLError:
        found = ssl.SSLError(1, reason)
        found.reason = reason
        return found

    assert alert_of(error("TLSV13_ALERT_CERTIFICATE_REQUIRED")) == ALERTS["CERTIFICATE_REQUIRED"]
    assert alert_of(error("SSLV3_ALERT_HANDSHAKE_FAILURE")) == ALERTS["HANDSHAKE_FAILURE"]
    assert alert_of(error("TLSV1_ALERT_UNKNOWN_CA")) == ALERTS["UNKNOWN_CA"]
    assert alert_of(error("SSLV3_ALERT_CERTIFICATE_EXPIRED")) == ALERTS["CERTIFICATE_EXPIRED"]
    assert alert_of(error("TLSV1_UNRECOGNIZED_NAME")) == ALERTS["UNRECOGNIZED_NAME"]
    assert alert_of(error("TLSV1_ALERT_INTERNAL_ERROR")) == "the upstream sent TLSV1_ALERT_INTERNAL_ERROR"
    assert alert_of(error("CERTIFICATE_VERIFY_FAILED")) is None
    assert alert_of(ConnectionResetError()) is None
    assert alert_of(None) is None


def configured(cert: Path, key: Path) -> bytes:
    """Return a configuration with a client certificate."""
    pair = f"client_certificate: {{ cert: {cert}, key: {key} }}"
    return f"providers:\n  up: {{ type: vllm, base_url: 'https://up/v1', {pair} }}\n".encode()


def test_files_that_do_not_fit_are_refused_with_their_place(tmp_path: Path) -> None:
    certificates = MutualCertificates(tmp_path)
    (cert, key), (_, other) = certificates.issue_client(), certificates.issue_client("other")
    loaded = parse(configured(cert, key), "gateway.yaml", environ={}).providers["up"].client_certificate
    assert loaded is not None
    assert (loaded.cert, loaded.key) == (str(cert), str(key))
    key_is_public = tmp_path / "public.key"
    key_is_public.write_bytes(key.read_bytes())
    key_is_public.chmod(0o644)
    for pair, path, reason in (
        ((cert, other), "", "KEY_VALUES_MISMATCH"),
        ((cert, key_is_public), ".key", "world-readable"),
        ((tmp_path / "absent", key), ".cert", "no such file"),
    ):
        with pytest.raises(ConfigError) as found:
            parse(configured(*pair), "gateway.yaml", environ={})
        (problem,) = found.value.problems
        assert (problem.line, problem.path) == (2, f"providers.up.client_certificate{path}")
        assert reason in problem.message
