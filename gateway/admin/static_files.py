"""GET / and /page/NAME: the files of the page. They contain no data, so they can be read without the admin key; the page asks for it."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
SERVED = frozenset({".css", ".html", ".js", ".mjs", ".svg"})
"""Suffixes of the files that are served. Licences and notes are not served."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every file. Scripts and styles cannot be inline or come from another origin, and no site can show the page in a frame."""


class StaticFile(msgspec.Struct, frozen=True):
    """One file of the page, plain and compressed."""

    body: bytes
    compressed: bytes
    kind: str
    etag: str


@cache
def files() -> dict[str, StaticFile]:
    """Return the files by their path below FOLDER."""
    found = [path for path in FOLDER.rglob("*") if path.suffix in SERVED]
    return {path.relative_to(FOLDER).as_posix(): _read(path) for path in found}


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    kind = "text/javascript" if path.suffix in (".js", ".mjs") else mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return StaticFile(body, gzip.compress(body, mtime=0), f"{kind}; charset=utf-8", f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def serve(name: str | None = None) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of one file, or of the file that the path names."""

    async def answer(request: Request) -> Response:
        file = files().get(name or request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        headers = {**HEADERS, "etag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(b"", 304, headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.compressed, 200, {**headers, "content-encoding": "gzip"}, file.kind)
        return Response(file.body, 200, headers, file.kind)

    return answer
