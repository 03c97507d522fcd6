"""Packages of the vendors at the addresses that they use, with nothing changed except the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_programs import GOODFIRE_BIN, MAIN_BIN, OPENAI_2_BIN, run_program
from tests.clients.conftest import KEY, Front
from tests.clients.test_anthropic_package import call_tool
from tests.faults.behaviours import canned, chat_chunk, sse
from tests.faults.chat_script import answer_text, numbered_words
from tests.faults.upstream_wire import Exchange

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
MODELS = {"chat", "other", "ends-early", "limited-for-seconds", "limited-for-an-hour"}
NEWEST, SECOND, FIRST = (path / "python" for path in (MAIN_BIN, OPENAI_2_BIN, GOODFIRE_BIN))
OPENAI_PATHS = (
    "", "/v1", "/openai/v1", "/openai", "/inference/v1", "/api/inference/v1", "/serverless/v1", "/dedicated/v1", "/v1beta/openai/",
    "/api/v1", "/compatibility/v1",
)  # fmt: skip
CALLS = [
    ("openai", FIRST, ("/v1",)),
    ("openai", SECOND, ("/v1",)),
    ("openai", NEWEST, OPENAI_PATHS),
    *(("azure", interpreter, ("",)) for interpreter in (FIRST, SECOND, NEWEST)),
    ("groq", NEWEST, ("",)),
    ("cerebras", NEWEST, ("",)),
    ("fireworks", NEWEST, ("", "/inference")),
    ("friendli", NEWEST, ("",)),
    ("mistral", NEWEST, ("",)),
    ("anthropic", NEWEST, ("", "/anthropic")),
    ("cohere", NEWEST, ("",)),
]
"""Packages, the interpreters that have a version of them, and the paths below the host."""
REFUSED = {"friendli": "SDKError 404", "mistral": "SDKError 404"}
"""The exception for an unknown model, where it is not the package's NotFoundError."""
WITHOUT_MODELS = ("azure", "fireworks", "friendli")
"""Packages that cannot list models, or that list only the models of one account."""

FINGERPRINT = {"system_fingerprint": "fp_1"}
"""Cerebras' package reads the chunks as another class if they lack a fingerprint, which Cerebras always sends."""


async def answer_as_cerebras(exchange: Exchange) -> None:
    """Answer with words and a fingerprint."""
    words = [{**chat_chunk(word), **FINGERPRINT} for word in numbered_words(5)]
    if exchange.request.json.get("stream"):
        await sse(*words, {**chat_chunk(finish="stop"), **FINGERPRINT}, b"[DONE]")(exchange)
        return
    choice = {"index": 0, "message": {"role": "assistant", "content": answer_text()}, "finish_reason": "stop"}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice], **FINGERPRINT}
    await canned(json.dumps(whole).encode())(exchange)


@pytest.mark.parametrize(("package", "interpreter", "paths"), CALLS)
def test_package_chats_streams_calls_tools_lists_models_and_raises_its_own_errors(
    front: Front, package: str, interpreter: Path, paths: tuple[str, ...]
) -> None:
    front.upstream.on(lambda request: b"use the tool" in request.body, call_tool)
    if package == "cerebras":
        front.upstream.on(lambda request: b'"Hi"' in request.body, answer_as_cerebras)
    environment = {"ORIGIN": front.gateway.url, "UNDER": " ".join(paths), "API_KEY": KEY, "MODEL": "chat", "PACKAGE": package}
    results: Any = run_program("vendor_calls.py", interpreter, {**environment, "NO_PROXY": "127.0.0.1", "HOME": "/"})
    assert len(results) == len(paths)
    for under, result in zip(paths, results, strict=True):
        assert result["text"] == result["streamed"] == answer_text(), (under, result)
        assert result["tool"] == ["get_weather", {"city": "Bern"}]
        assert result["refused"] == REFUSED.get(package, "NotFoundError")
        assert result["models"] is None if package in WITHOUT_MODELS else set(result["models"]) == MODELS
