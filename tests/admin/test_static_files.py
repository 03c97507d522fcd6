"""The files of the page: the served files, their headers, and the rules for browsers."""

from __future__ import annotations

import gzip
import hashlib
import re

import pytest

from gateway.admin.static_files import FOLDER, files
from tests.admin.conftest import Admin

MAX_COMPRESSED_BYTES = 200_000


async def test_page_is_served_without_a_key_and_forbids_foreign_and_inline_code(admin: Admin) -> None:
    answer = await admin.client.get("/", headers={"sec-fetch-site": "cross-site"})  # a link on another site
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == policy["trusted-types"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_page_loads_only_its_own_files() -> None:
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", html)
    linked = re.findall(r'(?:href|src)="([^"]+)"', html)
    assert all(path.startswith("/page/") and path.removeprefix("/page/") in files() for path in linked)
    for name, file in files().items():
        for imported in re.findall(r'(?:from ?|import\()"(\.[^"]+)"', file.body.decode()) if name.endswith("js") else ():
            folder = name.rpartition("/")[0]
            assert f"{folder}/{imported[2:]}".lstrip("/") in files(), f"{name} imports {imported}"


def test_page_contains_no_address_of_another_server() -> None:
    for name, file in files().items():
        addresses = set(re.findall(r"https?://[\w.-]+", file.body.decode()))
        assert addresses <= {"http://www.w3.org"}, name  # the namespaces of SVG and MathML


def test_page_is_small() -> None:
    assert sum(len(file.compressed) for file in files().values()) <= MAX_COMPRESSED_BYTES


@pytest.mark.parametrize("name", ["app.css", "app.js", "icon.svg", "vendor/preact.mjs"])
async def test_file_is_compressed_and_cached(admin: Admin, name: str) -> None:
    plain = await admin.client.get(f"/page/{name}", headers={"accept-encoding": "identity"})
    packed = await admin.client.get(f"/page/{name}", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content == (FOLDER / name).read_bytes() == gzip.decompress(files()[name].compressed)
    again = await admin.client.get(f"/page/{name}", headers={"if-none-match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["", "nothing.js", "../app.py", "%2e%2e/app.py", "vendor/LIBRARIES.txt", "vendor/LICENSE.htm"])
async def test_other_files_are_not_served(admin: Admin, name: str) -> None:
    assert (await admin.client.get(f"/page/{name}")).status_code == 404


def test_vendored_files_are_those_of_their_packages() -> None:
    notes = (FOLDER / "vendor/LIBRARIES.txt").read_text()
    listed = dict(reversed(line.split("  ")) for line in re.findall(r"^[0-9a-f]{64}  .*$", notes, re.M))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FOLDER / "vendor").glob("*.mjs")}
    assert listed == found
