"""The package anthropic with the gateway in front of a simulated Anthropic API, whose answers pass unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, run_program
from tests.clients.conftest import KEY, Front, fronted
from tests.faults.behaviours import canned
from tests.native import anthropic_fake as fake
from tests.native.anthropic_words import answer_in_words

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
CONFIG = """\
providers:
  ant: {{ type: anthropic, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models:
  chat: ant/claude-opus-4-6
keys:
  clients: {{ hash: "sha256:{key}" }}
"""
WEATHER = ["tool_use", "get_weather", {"city": "Bern"}]


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Front]:
    """Return a gateway in front of a simulated Anthropic API."""
    with fronted(CONFIG, tmp_path, fake.KEY) as front:
        yield front


def test_the_package_makes_every_kind_of_call(native: Front) -> None:
    native.upstream.on("/v1/messages", answer_in_words)
    native.upstream.on("/v1/messages/count_tokens", canned(b'{"input_tokens": 77}'))
    environment = {"ORIGIN": native.gateway.url, "API_KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": "/"}
    result: dict[str, Any] = run_program("anthropic_messages.py", MAIN_BIN / "python", environment)
    words = "w0 w1 w2 w3 "
    assert result["answer"] == ["Message", words, "end_turn", 5, "req_"]
    assert result["stream"] == [4, words, "end_turn", 5, 5]
    deltas = ["content_block_delta"] * 4
    assert result["events"] == ["message_start", "content_block_start", *deltas, "content_block_stop", "message_delta", "message_stop"]
    assert (result["stopped"], result["cut"]) == ("w2", "max_tokens")
    assert result["tool"] == result["streamed_tool"] == ["tool_use", ["text", None, None], WEATHER]
    assert (result["after_tool"], result["image"][:2]) == ("text", "w0")
    assert result["thinking"] == ["thinking", "hm", "Yes."]
    assert result["usage"] == [5, 4, 5]
    assert result["count"] == 77
    assert (result["beta"], result["bearer"]) == ("w0 w1 ", "assistant")
    assert result["unknown_key"] == ["AuthenticationError", "authentication_error", True]
    assert result["bad_value"] == ["BadRequestError", "invalid_request_error", True]
    assert result["rate_limit"] == ["RateLimitError", "rate_limit_error", True]
    assert result["overloaded"][1:] == ["overloaded_error", True]
    assert result["broken"][1] in ("api_error", "timeout_error")
    assert result["before_abort"] == "message_start"
    sent = next(request for request in native.upstream.requests if b"sunny" in request.body)
    assert [message["role"] for message in sent.json["messages"]] == ["user", "assistant", "user"]
    assert any(request.header("anthropic-beta") == "context-1m-2025-08-07" for request in native.upstream.requests)
