"""The callers' listener: it follows the current configuration."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import trustme

from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.runtime.gateway import Gateway
from gateway.server.callers_listener import make_callers_server, reload_certificate
from gateway.telemetry.call_log import CallLog

YAML = """
tls: {{ cert: {folder}/cert.pem, key: {folder}/key.pem }}
providers:
  up: {{ type: openai-compatible, base_url: "http://127.0.0.1:9/v1" }}
models:
  m: up/mock
"""


def write_certificate(folder: Path) -> None:
    """Write a new certificate and its key."""
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o600)
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))


def served_certificate(context: ssl.SSLContext) -> str:
    """Return the certificate that a handshake with the context shows."""
    client_context = ssl.create_default_context()
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True) or b"")


async def test_a_new_certificate_is_served_after_it_was_reloaded(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "gateway.yaml").write_text(YAML.format(folder=tmp_path))
    source = ConfigSource(str(tmp_path / "gateway.yaml"), Overrides(), {})
    loaded = source.read()
    descriptor = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    gateway = Gateway(loaded.config, CallLog(descriptor, human=False), lambda line: None)
    await gateway.start()
    callers = make_callers_server(gateway)
    callers.config.load()
    context = callers.config.ssl
    assert context is not None
    first = served_certificate(context)
    write_certificate(tmp_path)
    await gateway.apply(source.read().config)
    assert served_certificate(context) == first
    reload_certificate(gateway, callers)
    assert served_certificate(context) != first
    await gateway.stop()
    os.close(descriptor)
