"""Tokens from the server that runs the model: one count for every API, ids, and estimates if the server does not answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.tokens.tokenizer import Tokenizer
from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.conftest import serving
from tests.flows.live import Live

HELLO = [{"role": "user", "content": "ab"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def words(text: str) -> list[int]:
    """Return the tokens of a text at the servers of these tests: its bytes."""
    return list(text.encode())


def template(body: dict[str, Any]) -> str:
    """Return the prompt that the servers build from messages."""
    said = "".join(f"<{message['role']}>{message['content']}" for message in body["messages"])
    return said + ("" if body.get("add_generation_prompt") is False else "<go>") + ("T" if body.get("tools") else "")


async def _send(exchange: Exchange, answer: dict[str, Any]) -> None:
    await canned(json.dumps(answer).encode())(exchange)


async def vllm_tokenize(exchange: Exchange) -> None:
    """Answer as vLLM does."""
    body = exchange.request.json
    text = template(body) if "messages" in body else body["prompt"]
    strings = {"token_strs": list(text)} if body["return_token_strs"] else {}
    await _send(exchange, {"count": len(words(text)), "max_model_len": 4096, "tokens": words(text), **strings})


async def llama_template(exchange: Exchange) -> None:
    """Apply the template as llama.cpp does."""
    await _send(exchange, {"prompt": template(exchange.request.json)})


async def llama_tokenize(exchange: Exchange) -> None:
    """Answer as llama.cpp does."""
    body = exchange.request.json
    ids = words(body["content"])
    pieces = [{"id": id, "piece": chr(id) if id < 128 else [id]} for id in ids]
    await _send(exchange, {"tokens": pieces if body["with_pieces"] else ids})


async def detokenize(exchange: Exchange) -> None:
    """Answer as both servers do."""
    text = bytes(exchange.request.json["tokens"]).decode()
    await _send(exchange, {"content": text, "prompt": text})


def on(up: FaultUpstream, kind: str) -> None:
    """Make the upstream a server of this type, whose tokenizer is not below /v1."""
    up.on("/tokenize", vllm_tokenize if kind == "vllm" else llama_tokenize)
    up.on("/apply-template", llama_template)
    up.on("/detokenize", detokenize)


async def post(client: httpx.AsyncClient, gateway: Live, path: str, **body: Any) -> httpx.Response:
    """Send a request for tokens."""
    return await client.post(gateway.base_url + path, json={"model": "m", **body})


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
async def test_server_of_the_model_counts_the_same_for_every_api(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    async with serving(up, kind=kind) as gateway:
        tokens = (await post(client, gateway, "/tokenize", messages=HELLO)).json()
        counted = (await post(client, gateway, "/messages/count_tokens", messages=HELLO)).json()
        input_tokens = (await post(client, gateway, "/responses/input_tokens", input="ab")).json()
        with_tools = (await post(client, gateway, "/tokenize", messages=HELLO, tools=TOOLS)).json()
        text = (await post(client, gateway, "/tokenize", prompt="añ", return_token_strs=True)).json()
        without = (await post(client, gateway, "/tokenize", messages=HELLO, add_generation_prompt=False)).json()
        back = (await post(client, gateway, "/detokenize", tokens=words("añ"))).json()
    expected = words("<user>ab<go>")
    assert tokens["tokens"] == expected
    assert (tokens["count"], tokens["exact"], tokens["tokenizer"]) == (len(expected), True, "server")
    assert counted["input_tokens"] == input_tokens["input_tokens"] == len(expected)
    assert counted["gateway"]["count"] == "exact"
    assert with_tools["tokens"] == words("<user>ab<go>T")
    assert (text["tokens"], len(text["token_strs"])) == (words("añ"), len(words("añ")) if kind == "llamacpp" else 2)
    assert without["tokens"] == words("<user>ab")
    assert (back["prompt"], back["text"], back["tokenizer"]) == ("añ", "añ", "server")
    assert tokens["max_model_len"] == (4096 if kind == "vllm" else None)


@pytest.mark.parametrize("answer", [b"{}", b'{"tokens":["a"]}', b'{"tokens":5}', b"no json", b"[]"])
async def test_server_that_does_not_answer_with_tokens_leaves_an_estimate(
    up: FaultUpstream, client: httpx.AsyncClient, answer: bytes
) -> None:
    up.on("/tokenize", canned(answer))
    up.on("/detokenize", status(500, "broken"))
    async with serving(up, kind="vllm") as gateway:
        tokens = (await post(client, gateway, "/tokenize", messages=HELLO)).json()
        counted = (await post(client, gateway, "/messages/count_tokens", messages=HELLO)).json()
        back = await post(client, gateway, "/detokenize", tokens=[1])
    assert (tokens["tokens"], tokens["exact"]) == (None, False)
    assert tokens["count"] == counted["input_tokens"] > 0
    assert tokens["tokenizer"] == counted["gateway"]["tokenizer"]
    assert back.status_code == 502


async def test_gateway_decodes_known_ids_if_the_server_does_not_answer(
    up: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Tokenizer("o200k_base", exact=True)
    monkeypatch.setattr("gateway.attempts.count_prompt._tokenizer", lambda candidate: known)
    up.on(lambda request: True, status(500, "broken"))
    async with serving(up, kind="vllm") as gateway:
        tokens = (await post(client, gateway, "/tokenize", prompt="hello world")).json()
        back = (await post(client, gateway, "/detokenize", tokens=tokens["tokens"])).json()
        unknown = await post(client, gateway, "/detokenize", tokens=[2**31 - 1])
    assert len(tokens["tokens"]) == 2
    assert (back["text"], back["tokenizer"]) == ("hello world", tokens["tokenizer"])
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "tokens[0]")


async def test_server_that_rejects_a_token_is_a_400(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/detokenize", status(400, "no such token"))
    async with serving(up, kind="vllm") as gateway:
        back = await post(client, gateway, "/detokenize", tokens=[999_999])
    assert (back.status_code, back.json()["error"]["message"]) == (400, "no such token")
