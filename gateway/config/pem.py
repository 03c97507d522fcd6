"""Certificates of our listener, kept as they were read: a process that starts later shows the same, whatever became of the files."""

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
    from gateway.config.types import TlsConfig


class PemFile(str):
    """A PEM file's path, with the content that it had."""

    content: str


def read_certificate(tls: TlsConfig, files: Files) -> TlsConfig:
    """The same files with their contents; OSError or ValueError when one cannot be read."""
    return replace(tls, cert=_pem(tls.cert, files), key=_pem(tls.key, files))


def _pem(path: str, files: Files) -> PemFile:
    found = PemFile(path)
    found.content = files.text(Path(path))
    return found


def load_certificate(context: ssl.SSLContext, tls: TlsConfig) -> None:
    """Show this certificate to the connections to come; ssl.SSLError when it cannot be used, and then nothing changes."""
    with _as_file(tls.cert) as cert, _as_file(tls.key) as key:
        context.load_cert_chain(cert, key, password=lambda: b"")


@contextlib.contextmanager
def _as_file(path: str) -> Iterator[str]:
    """Where OpenSSL, which reads files only, finds a content: in memory, never on a disk."""
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
