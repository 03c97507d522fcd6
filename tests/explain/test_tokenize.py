"""Tokens of texts and messages, with a known tokenizer and with an estimate."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.dialects.table import PREFIXES
from gateway.dialects.tokenize import TEXT_FIELDS
from gateway.explain import tokenize
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

TOKEN = "lg-a-0123456789abcdef"
HELLO = [{"role": "user", "content": "hello world"}]
TEXT = "héllo 🦊 <|endoftext|>"


def config(up: FaultUpstream, more: str = "") -> str:
    """Return a configuration with a model whose tokenizer is known, and one whose tokenizer is not."""
    return f"""
providers:
  known: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other: {{ type: mistral, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: known/gpt-4o, other: other/mistral-large }}
{more}"""


async def post(client: httpx.AsyncClient, gateway: Live, path: str, headers: Any = None, **body: Any) -> httpx.Response:
    """Send a request for tokens."""
    return await client.post(gateway.base_url + path, json={"model": "m", **body}, headers=headers)


async def test_known_tokenizer_returns_ids_that_turn_into_the_text_again(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(config(up), environ={"UP_KEY": "sk-1"}) as gateway:
        answers = [(await post(client, gateway, "/tokenize", **{name: TEXT})).json() for name in TEXT_FIELDS]
        strings = (await post(client, gateway, "/tokenize", prompt=TEXT, return_token_strs=True)).json()["token_strs"]
        back = (await post(client, gateway, "/detokenize", tokens=answers[0]["tokens"])).json()
        hello = (await post(client, gateway, "/tokenize", prompt="hello world")).json()
        long = (await post(client, gateway, "/tokenize", prompt="hello world " * 20_000)).json()
        half = (await post(client, gateway, "/detokenize", tokens=answers[0]["tokens"][:3])).json()
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["count"] == len(answers[0]["tokens"]) == len(strings)
    assert (answers[0]["exact"], answers[0]["tokenizer"], answers[0]["target"]) == (True, "o200k_base", "known/gpt-4o")
    assert answers[0]["max_model_len"] == 128_000
    assert back["prompt"] == back["text"] == TEXT
    assert hello["tokens"] == [24912, 2375]
    assert long["count"] == len(long["tokens"]) > 40_000
    assert TEXT.startswith(half["text"].rstrip("\ufffd"))
    assert up.requests == []


async def test_count_of_messages_is_that_of_the_other_apis(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "find", "parameters": {"type": "object"}}}]
    anthropic = [{"name": "f", "description": "find", "input_schema": {"type": "object"}}]
    async with live(config(up), environ={"UP_KEY": "sk-1"}) as gateway:
        for model in ("m", "other"):
            tokens = (await post(client, gateway, "/tokenize", model=model, messages=HELLO)).json()
            counted = (await post(client, gateway, "/messages/count_tokens", model=model, messages=HELLO)).json()
            responses = (await post(client, gateway, "/responses/input_tokens", model=model, input="hello world")).json()
            assert tokens["count"] == counted["input_tokens"] == responses["input_tokens"]
            assert tokens["exact"] is (counted["gateway"]["count"] == "exact") is (model == "m")
            assert tokens["tokens"] is None
            more = (await post(client, gateway, "/tokenize", model=model, messages=HELLO, tools=tools)).json()["count"]
            same = await post(client, gateway, "/messages/count_tokens", model=model, messages=HELLO, tools=anthropic)
            assert more == same.json()["input_tokens"] > tokens["count"]


async def test_unknown_tokenizer_is_an_estimate_without_ids(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(config(up), environ={"UP_KEY": "sk-1"}) as gateway:
        tokens = (await post(client, gateway, "/tokenize", model="other", prompt="hello world", return_token_strs=True)).json()
        back = await post(client, gateway, "/detokenize", model="other", tokens=[1])
    assert (tokens["count"], tokens["tokens"], tokens["token_strs"], tokens["exact"]) == (3, None, None, False)
    assert tokens["tokenizer"] == "o200k_base x 1.2"
    assert (back.status_code, back.json()["error"]["code"]) == (400, "unsupported_operation")


INVALID: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("/tokenize", {}, "messages"),
    ("/tokenize", {"messages": []}, "messages"),
    ("/tokenize", {"messages": HELLO, "prompt": "a"}, "prompt"),
    ("/tokenize", {"prompt": ["a"]}, "prompt"),
    ("/tokenize", {"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
    ("/tokenize", {"messages": HELLO, "add_generation_prompt": False}, "add_generation_prompt"),
    ("/tokenize", {"prompt": "a", "add_special_tokens": True}, "add_special_tokens"),
    ("/tokenize", {"prompt": "a", "chat_template": "x"}, "chat_template"),
    ("/tokenize", {"prompt": "a", "metadata": {"k": 1}}, "metadata.k"),
    ("/detokenize", {}, "tokens"),
    ("/detokenize", {"tokens": "a"}, "tokens"),
    ("/detokenize", {"tokens": [1, "a"]}, "tokens[1]"),
    ("/detokenize", {"tokens": [1, True]}, "tokens[1]"),
    ("/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
    ("/detokenize", {"tokens": [1, 2**31]}, "tokens[1]"),
    ("/detokenize", {"tokens": [1, 1_000_000]}, "tokens[1]"),
)


async def test_invalid_request_is_a_400_that_names_the_field(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(config(up), environ={"UP_KEY": "sk-1"}) as gateway:
        for path, body, param in INVALID:
            answer = await post(client, gateway, path, **body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (path, body, answer.text)


async def test_key_is_required_and_every_prefix_is_served(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', models: [m] }}\n"
    async with live(config(up, keys), environ={"UP_KEY": "sk-1"}) as gateway:
        for prefix in PREFIXES:
            url = gateway.url + prefix
            for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [1]})):
                assert (await client.post(url + path, json={"model": "m", **body})).status_code == 401
                assert (await client.post(url + path, json={"model": "m", **body}, headers=bearer(TOKEN))).status_code == 200
                assert (await client.get(url + path, headers=bearer(TOKEN))).status_code == 405
        other = await post(client, gateway, "/tokenize", headers=bearer(TOKEN), model="other", prompt="a")
    assert other.status_code == 403


async def test_body_that_cannot_be_read_is_a_400(
    up: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_deep(*_: Any) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(tokenize, "tokenize", too_deep)
    async with live(config(up), environ={"UP_KEY": "sk-1"}) as gateway:
        answer = await post(client, gateway, "/tokenize", messages=HELLO)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
