"""Requests rejected before any upstream request: one error format, one request id, one log record."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, post_chat, serving


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
    ("DELETE", "/chat/completions", 405, "method_not_allowed"),
    ("OPTIONS", "/v1/chat/completions", 405, "method_not_allowed"),
    ("HEAD", "/v1/chat/completions", 405, None),
    ("POST", "/v1/models", 405, "method_not_allowed"),
    ("GET", "/", 404, "not_found"),
    ("GET", "/v2/models", 404, "not_found"),
    ("POST", "/v1/chat/completions/", 404, "not_found"),
    ("POST", "/v1//chat/completions", 404, "not_found"),
    ("POST", "/V1/chat/completions", 404, "not_found"),
    ("GET", "/v1/models/none", 404, "model_not_found"),
])  # fmt: skip
async def test_unknown_paths_and_wrong_methods_are_rejected(
    up: FaultUpstream, client: httpx.AsyncClient, method: str, path: str, status: int, code: str | None
) -> None:
    async with serving(up) as gateway:
        answer = await client.request(method, gateway.url + path, headers={"host": "a/b?c="} if method == "PUT" else {})
    assert answer.status_code == status
    assert answer.headers["x-request-id"].startswith("req_")
    if code is not None:
        assert answer.json()["error"]["code"] == code
        assert answer.headers["content-type"] == "application/json"
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(("headers", "content", "status", "code"), [
    ({"content-type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
    ({"content-type": "multipart/form-data; boundary=x"}, b"--x--", 415, "unsupported_media_type"),
    ({"content-encoding": "gzip"}, b"\x1f\x8b", 415, "unsupported_content_encoding"),
    ({}, b"", 400, "invalid_json"),
    ({}, b"[]", 400, "invalid_json"),
    ({}, b"{nope", 400, "invalid_json"),
    ({}, b'{"model":"m","model":"n"}', 400, "duplicate_key"),
    ({}, b"{}", 400, "missing_required_parameter"),
    ({}, b'{"model":7}', 400, "invalid_type"),
    ({}, b'{"model":1e999}', 400, "invalid_json"),
    ({}, b'{"model":"m"}', 400, "missing_required_parameter"),
    ({}, b'{"model":"m","messages":[]}', 400, "invalid_value"),
    ({}, b'{"model":"m","messages":[{"role":"user","content":"x"}],"odd":1e999}', 400, "invalid_json"),
    ({}, b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}', 400, "invalid_value"),
    ({}, b'{"model":"m","messages":[{"role":"user","content":"x"}],"base_url":"http://x"}', 400, "unsupported_parameter"),
    ({}, b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":1e999}]}]}', 400, "invalid_type"),
    ({}, b" " * 70_000, 413, "request_too_large"),
])  # fmt: skip
@pytest.mark.parametrize("path", ["/chat/completions", "/explain"])
async def test_invalid_bodies_are_rejected(
    up: FaultUpstream, client: httpx.AsyncClient, path: str, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    async with serving(up, "max_body: 64KiB\n", kind="openai") as gateway:
        answer = await client.post(gateway.base_url + path, content=content, headers=headers)
        if path == "/chat/completions":
            record = (await gateway.records(1))[0]
            assert (record["status"], record["error"], record["id"]) == (status, code, answer.headers["x-request-id"])
            assert gateway.count("lockgate_internal_errors") == 0
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert up.requests == []


async def test_oversized_chunked_body_is_rejected_during_upload(up: FaultUpstream) -> None:
    async with serving(up, "max_body: 64KiB\n") as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")  # without an end
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await gateway.records(1)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in answer


async def test_caller_request_id_is_returned_separately_and_never_reused(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, headers={"x-request-id": "mine-1"})
        odd = await post_chat(client, gateway, headers={"x-request-id": "a" * 500})
        records = await gateway.records(2)
    assert answer.headers["x-client-request-id"] == "mine-1"
    assert answer.headers["x-request-id"].startswith("req_")
    assert "x-client-request-id" not in odd.headers
    assert [record.get("client_id") for record in records] == ["mine-1", None]


async def test_every_response_has_a_unique_id_that_is_in_the_log(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        bodies: list[Any] = [chat(), chat(stream=True), chat("none"), {"model": 1}]
        ids = [(await client.post(gateway.base_url + "/chat/completions", json=body)).headers["x-request-id"] for body in bodies]
        assert [record["id"] for record in await gateway.records(4)] == ids
    assert len(set(ids)) == 4


async def test_internal_error_is_logged_without_its_details(
    up: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the prompt was: my secret")

    async with serving(up) as gateway:
        monkeypatch.setattr(gateway.gateway.generation.router, "candidates", broken)
        answer = await post_chat(client, gateway, text="my secret")
        lines = await gateway.records(2)
        assert gateway.count("lockgate_internal_errors") == 1
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert {line["id"] for line in lines} == {answer.headers["x-request-id"]}
    assert "secret" not in answer.text + json.dumps(lines)
