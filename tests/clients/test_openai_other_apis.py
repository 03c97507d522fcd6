"""The openai package through passed paths: files, audio, images, moderations, batches, uploads and vector stores, at a strict server."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import openai
import pytest

from tests.faults.upstream_server import Exchange, FaultUpstream, Request, Script
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = pytest.mark.prove

KEY = "lg-clients-0123456789abcdef"
YAML = """
providers:
  up: {{ type: openai, base_url: "{base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: up/mock }}
keys:
  app: {{ hash: "sha256:{key}", limits: {{ concurrent: 5 }} }}
passthrough:
  "/v1/audio/*": up
  "/v1/images/*": up
  "/v1/files/*": up
  "/v1/moderations": up
  "/v1/batches/*": up
  "/v1/vector_stores/*": up
  "/v1/fine_tuning/*": up
"""
CONTENT = bytes(range(256)) * 4000
FILE = {
    "id": "file-1", "object": "file", "bytes": len(CONTENT), "created_at": 1, "filename": "data.jsonl", "purpose": "batch",
    "status": "processed",
}  # fmt: skip
BATCH = {
    "id": "batch-1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h",
    "status": "validating", "created_at": 1, "usage": {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10},
}  # fmt: skip


def form(request: Request) -> dict[str, Any]:
    """Return the fields of a multipart form: bytes with a file name, or text. Fail if the form is malformed."""
    kind = request.header("content-type") or ""
    assert re.fullmatch(r'multipart/form-data; boundary="?[\w-]+"?', kind), kind
    message: Any = BytesParser(policy=HTTP).parsebytes(f"content-type: {kind}\r\n\r\n".encode() + request.body)
    assert not message.defects, message.defects
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name, file = part.get_param("name", header="content-disposition"), part.get_filename()
        payload = part.get_payload(decode=True)
        fields[name] = (file, payload) if file else payload.decode()
    return fields


def answer(exchange: Exchange, body: bytes, kind: str = "application/json", status: str = "200 OK", *headers: str) -> Any:
    """Send a response."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", "x-request-id: req_theirs", *headers]
    return exchange.send("\r\n".join([*lines, "", ""]).encode() + body)


def strict(routes: dict[tuple[str, str], Any]) -> Script:
    """Return the script of a server that has only these routes and rejects every request that OpenAI would reject."""

    async def script(exchange: Exchange) -> None:
        request = exchange.request
        assert request.header("authorization") == f"Bearer {CREDENTIAL}"
        assert KEY.encode() not in request.head + request.body
        assert request.header("host") == f"127.0.0.1:{exchange.server.port}"
        assert [name for name, _ in request.headers if name.startswith("x-gateway")] == []
        path = request.path.split("?")[0]
        route = routes.get((request.method, path))
        if route is None:
            await answer(exchange, b'{"error":{"message":"no such route","type":"x","code":null,"param":null}}', status="404 Not Found")
            return
        result = route(request) if callable(route) else route
        if isinstance(result, bytes):
            await answer(exchange, result, "application/octet-stream", "200 OK", "content-disposition: attachment; filename=x")
        else:
            await answer(exchange, json.dumps(result).encode())

    return script


@pytest.fixture
async def app(up: FaultUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    """Return the package's client of a gateway with passed paths."""
    text = YAML.format(base_url=up.base_url, key=hashlib.sha256(KEY.encode()).hexdigest())
    async with live(text, environ={"UP_KEY": CREDENTIAL}) as gateway:
        http_client = openai.DefaultAsyncHttpxClient(verify=WITHOUT_AUTHORITIES)
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, http_client=http_client, max_retries=0) as client:
            yield client


async def test_files_are_created_listed_read_and_deleted(up: FaultUpstream, app: openai.AsyncOpenAI) -> None:
    def create(request: Request) -> dict[str, Any]:
        fields = form(request)
        assert fields == {"purpose": "batch", "file": ("data.jsonl", CONTENT)}
        return FILE

    routes = {
        ("POST", "/v1/files"): create,
        ("GET", "/v1/files"): {"object": "list", "data": [FILE], "has_more": False},
        ("GET", "/v1/files/file-1"): FILE,
        ("GET", "/v1/files/file-1/content"): CONTENT,
        ("DELETE", "/v1/files/file-1"): {"id": "file-1", "object": "file", "deleted": True},
    }
    up.on(lambda request: True, strict(routes))
    created = await app.files.create(file=("data.jsonl", CONTENT), purpose="batch")
    assert (created.id, created.bytes) == ("file-1", len(CONTENT))
    assert [each.id async for each in app.files.list(limit=5)] == ["file-1"]
    assert (await app.files.retrieve("file-1")).filename == "data.jsonl"
    assert (await app.files.content("file-1")).content == CONTENT
    async with app.files.with_streaming_response.content("file-1") as response:
        assert b"".join([piece async for piece in response.iter_bytes()]) == CONTENT
        assert response.headers["content-disposition"] == "attachment; filename=x"
    assert (await app.files.delete("file-1")).deleted
    assert {request.path for request in up.requests} >= {"/v1/files?limit=5", "/v1/files/file-1/content"}


async def test_audio_is_transcribed_and_spoken(up: FaultUpstream, app: openai.AsyncOpenAI) -> None:
    def transcribe(request: Request) -> dict[str, Any]:
        fields = form(request)
        assert fields.pop("file") == ("a.wav", CONTENT)
        assert fields == {"model": "gpt-4o-transcribe", "language": "de"}
        return {"text": "hallo", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 2, "total_tokens": 16}}

    def speak(request: Request) -> bytes:
        assert request.json == {"input": "hi", "model": "tts-1", "voice": "alloy"}
        return CONTENT

    up.on(lambda request: True, strict({("POST", "/v1/audio/transcriptions"): transcribe, ("POST", "/v1/audio/speech"): speak}))
    heard = await app.audio.transcriptions.create(file=("a.wav", CONTENT), model="gpt-4o-transcribe", language="de")
    assert heard.text == "hallo"
    spoken = await app.audio.speech.create(input="hi", model="tts-1", voice="alloy")
    assert spoken.content == CONTENT


async def test_images_moderations_batches_and_vector_stores_work(up: FaultUpstream, app: openai.AsyncOpenAI) -> None:
    store = {
        "id": "vs-1", "object": "vector_store", "created_at": 1, "name": "n", "usage_bytes": 0, "status": "completed",
        "last_active_at": None,
        "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}, "metadata": None,
    }  # fmt: skip
    picture = {"created": 1, "data": [{"b64_json": "AAAA"}], "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
    routes = {
        ("POST", "/v1/images/generations"): picture,
        ("POST", "/v1/images/edits"): lambda request: picture if form(request)["image"] == ("i.png", b"\x89PNG") else None,
        ("POST", "/v1/moderations"): {"id": "m", "model": "omni", "results": []},
        ("POST", "/v1/batches"): BATCH,
        ("GET", "/v1/batches/batch-1"): BATCH,
        ("POST", "/v1/batches/batch-1/cancel"): BATCH,
        ("POST", "/v1/vector_stores"): store,
        ("POST", "/v1/vector_stores/vs-1/search"): {"object": "x", "search_query": ["q"], "data": [], "has_more": False, "next_page": None},
    }
    up.on(lambda request: True, strict(routes))
    images = await app.images.generate(prompt="a fox", model="gpt-image-1")
    assert images.data is not None
    assert images.data[0].b64_json == "AAAA"
    assert (await app.images.edit(image=("i.png", b"\x89PNG"), prompt="p")).created == 1
    assert (await app.moderations.create(input="x")).id == "m"
    made = await app.batches.create(input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h")
    assert (await app.batches.retrieve(made.id)).id == (await app.batches.cancel(made.id)).id == "batch-1"
    assert (await app.vector_stores.create(name="n")).id == "vs-1"
    assert [each async for each in app.vector_stores.search("vs-1", query="q")] == []


async def test_the_vendors_errors_and_those_of_the_gateway_are_the_packages_exceptions(up: FaultUpstream, app: openai.AsyncOpenAI) -> None:
    up.on(lambda request: True, strict({}))
    with pytest.raises(openai.NotFoundError) as theirs:
        await app.files.retrieve("file-9")
    assert theirs.value.body == {"message": "no such route", "type": "x", "code": None, "param": None}
    assert theirs.value.response.headers["x-upstream-request-id"] == "req_theirs"
    with pytest.raises(openai.NotFoundError) as ours:
        await app.containers.create(name="x")
    assert 'passthrough: { "/v1/containers/*": PROVIDER }' in ours.value.message
    with pytest.raises(openai.AuthenticationError):
        await app.with_options(api_key="lg-unknown").files.list()
    await up.stop()
    with pytest.raises(openai.InternalServerError) as down:
        await app.files.create(file=("x", b"y"), purpose="batch")
    assert down.value.code in ("upstream_connect_error", "upstream_closed")  # the pooled connection may still seem open
