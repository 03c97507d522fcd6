"""The certificate of the callers' listener.

The certificate is kept in memory, so that processes that start later use the same certificate.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from gateway.config.files import Files
    from gateway.config.listener import TlsConfig


class PemFile(str):
    """The path of a PEM file, with its content when it was read."""

    content: str


def read_certificate(tls: TlsConfig, files: Files) -> TlsConfig:
    """Return the settings with the contents of both files.

    Raise OSError or ValueError if one of the files is unreadable.
    """
    return replace(tls, cert=_pem(tls.cert, files), key=_pem(tls.key, files))


def _pem(path: str, files: Files) -> PemFile:
    pem = PemFile(path)
    pem.content = files.text(Path(path))
    return pem


def load_certificate(context: ssl.SSLContext, tls: TlsConfig) -> None:
    """Use this certificate for new connections.

    Raise ssl.SSLError if the certificate is unusable. The context may then be unusable too, so check the certificate with another
    context first.
    """
    with _as_file(tls.cert) as cert, _as_file(tls.key) as key:
        context.load_cert_chain(cert, key, password=lambda: b"")


@contextlib.contextmanager
def _as_file(path: str) -> Iterator[str]:
    """Yield a path at which OpenSSL, which reads only files, finds the content. The content of a PemFile stays in memory."""
    if not isinstance(path, PemFile):
        yield path
        return
    memory = os.memfd_create("pem")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(path.content.encode())
        yield f"/proc/self/fd/{memory}"
    finally:
        os.close(memory)
