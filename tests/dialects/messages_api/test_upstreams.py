"""Requests of the Messages API at the providers: unchanged at Anthropic, and valid at all others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.messages_api.request import translate_request
from gateway.dialects.messages_api.stream import MessageStream
from gateway.dialects.messages_api.thinking import fit_thinking
from gateway.streams.relay import DONE
from providers.base import Adjustment, Body, Options, Refusal
from tests.dialects.messages_api.grammar import read_message
from tests.dialects.messages_api.test_request import accept
from tests.providers.adapting import target_for
from tests.providers.strict import objections
from tests.providers.test_strict_servers import MODELS, SERVERS, SETTINGS

MARK = {"cache_control": {"type": "ephemeral"}}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}, "title": "t"}
TEXT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hé"}}
USES = [
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1.5}},
    {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}, **MARK},
]
RESULTS = [
    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "x"}, PNG], **MARK},
    {"type": "tool_result", "tool_use_id": "toolu_2", "content": "bad", "is_error": True},
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "hi", **MARK}, PNG, PDF, TEXT]},
    {"role": "assistant", "content": [SIGNED, HIDDEN, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}, *USES]},
    {"role": "user", "content": RESULTS},
    {"role": "user", "content": [{"type": "text", "text": "go on"}]},
]
REQUEST: dict[str, Any] = {
    "max_tokens": 4096,
    "system": [{"type": "text", "text": "s", **MARK}],
    "messages": TURNS,
    "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {"at": {"type": "number"}}}, **MARK}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "adaptive", "display": "omitted"},
    "output_config": {"effort": "medium"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["X"],
    "stream": True,
    "service_tier": "auto",
}
BETA = {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}, "diagnostics": {"previous_message_id": None}}
"""Fields that the package and Claude Code send."""


Adapted = tuple[dict[str, Any], list[Adjustment]]


def adapted(kind: str, model: str, request: dict[str, Any], *, strict: bool = False, **settings: Any) -> Adapted:
    """Return the upstream's body for a Messages request, and the adjustments. Raise Refusal as the provider does."""
    translated = accept(translate_request(json.dumps({"model": model, **request}).encode(), strict=strict))
    target, body = target_for(kind, model, **settings), Body(translated.body)
    options = Options(strict=strict, stream=request.get("stream") is True)
    made = fit_thinking(body, target, strict=strict)
    made = [*translated.adjustments, *made, *target.kind.adapt(body, target, options)]
    return json.loads(target.kind.encode(body, target, options).body), made


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-sonnet-4-6"])
def test_anthropic_gets_what_the_caller_sent_and_nothing_is_lost(model: str) -> None:
    whole = {**REQUEST, **BETA}
    assert adapted("anthropic", model, whole, strict=True)[0] == {"model": model, **whole}


@pytest.mark.parametrize("output", [{"effort": "low"}, {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}])
def test_an_effort_alone_does_not_turn_thinking_on(output: dict[str, Any]) -> None:
    request = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "output_config": output}
    assert adapted("anthropic", "claude-sonnet-4-6", request, strict=True)[0] == {"model": "claude-sonnet-4-6", **request}


PLAIN = [{**turn, "content": [block for block in turn["content"] if block not in (PNG, PDF, TEXT)]} for turn in TURNS]


@pytest.mark.parametrize("server", [server for server in SERVERS if server not in ("anthropic", "goodfire")])
def test_other_providers_get_only_what_they_accept(server: str) -> None:
    kind, model = server.partition("_")[0], MODELS.get(server, "example")
    for thinking in ({"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2048}, {"type": "disabled"}):
        for effort in ({}, {"output_config": {"effort": "low"}}):
            request = {**REQUEST, "messages": PLAIN, "thinking": thinking, **effort}
            if not effort:
                request.pop("output_config")
            sent, _ = adapted(kind, model, request, **SETTINGS.get(server, {}))
            assert list(objections(server, sent)) == [], (thinking, effort)
            calls = [call["function"]["arguments"] for each in sent["messages"] for call in each.get("tool_calls") or ()]
            assert [json.loads(arguments) for arguments in calls] == [{"at": 1.5}, {}]


USER = [{"role": "user", "content": "hi"}]
ENABLED = {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize(
    ("kind", "model", "thinking", "effort", "sent", "reported"),
    [
        ("openai", "gpt-5.1", {"type": "adaptive"}, None, {}, [("thinking", "drop")]),
        ("openai", "gpt-5.1", {"type": "adaptive"}, "high", {"reasoning_effort": "high"}, [("thinking", "drop")]),
        ("openai", "gpt-5.1", {"type": "disabled"}, None, {"reasoning_effort": "none"}, [("thinking", "reshape")]),
        ("openai", "gpt-5.1", ENABLED, None, {"reasoning_effort": "low"}, [("thinking", "downgrade")]),
        ("openai", "gpt-5.1", ENABLED, "high", {"reasoning_effort": "high"},
         [("thinking", "drop"), ("thinking.budget_tokens", "drop")]),
        ("openai", "gpt-4.1", {"type": "disabled"}, None, {}, [("thinking", "drop")]),
        ("fireworks", "m", ENABLED, None, {"thinking": ENABLED}, []),
        ("fireworks", "m", {"type": "adaptive"}, "low", {"reasoning_effort": "low"}, [("thinking", "drop")]),
        ("fireworks", "m", {"type": "disabled"}, "low", {"thinking": {"type": "disabled"}}, [("reasoning_effort", "drop")]),
        ("deepseek", "deepseek-v4-pro", ENABLED, None, {"thinking": {"type": "enabled"}}, [("thinking.budget_tokens", "drop")]),
        ("cohere", "command-a", ENABLED, None, {"thinking": {"type": "enabled", "token_budget": 2048}}, [("thinking", "reshape")]),
        ("openai-compatible", "m", {"type": "adaptive"}, None, {"thinking": {"type": "adaptive"}}, []),
    ],
)  # fmt: skip
def test_thinking_at_other_providers(
    kind: str, model: str, thinking: dict[str, Any], effort: str | None, sent: dict[str, Any], reported: list[Any]
) -> None:
    request = {"max_tokens": 4096, "messages": USER, "thinking": thinking}
    if effort is not None:
        request["output_config"] = {"effort": effort}
    body, made = adapted(kind, model, request)
    assert {name: value for name, value in body.items() if name in ("thinking", "reasoning_effort")} == sent
    ours = [(each.param, each.action) for each in made if each.param in ("thinking", "thinking.budget_tokens", "reasoning_effort")]
    assert ours == reported
    if any(action == "downgrade" or param != "thinking" for param, action in reported):
        with pytest.raises(Refusal):
            adapted(kind, model, request, strict=True)


def test_anthropics_stream_comes_back_with_its_blocks() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 4, "output_tokens": 1}
    citation = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": "D"}
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        ({"type": "thinking", "thinking": "", "signature": ""},
         [{"type": "thinking_delta", "thinking": "h"}, {"type": "thinking_delta", "thinking": "m"},
          {"type": "signature_delta", "signature": "c2ln"}]),
        ({"type": "thinking", "thinking": "", "signature": ""}, [{"type": "signature_delta", "signature": "b3Ro"}]),
        (HIDDEN, []),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "it is"}, {"type": "citations_delta", "citation": citation}]),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "so"}]),
        ({"type": "tool_use", "id": "a", "name": "f", "input": {}},
         [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"x"', ": 1}")]),
        ({"type": "tool_use", "id": "b", "name": "g", "input": {}}, []),
    ]  # fmt: skip
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}})
    events.append({"type": "message_stop"})
    target = target_for("anthropic")
    decoder = target.kind.decoder(target, Options(stream=True))
    assert decoder is not None
    stream, out = MessageStream("m"), b""
    for event in events:
        for chunk in decoder.feed(event["type"], json.dumps(event).encode()):
            out += stream.feed(DONE if chunk == b"[DONE]" else b"data: " + chunk + b"\n\n")
    message = read_message(out)
    assert message["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "thinking", "thinking": "", "signature": "b3Ro"},
        HIDDEN,
        {"type": "text", "text": "it is", "citations": [citation]},
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}, "arguments": '{"x": 1}'},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}, "arguments": "{}"},
    ]
    assert (message["id"], message["stop_reason"], message["usage"]) == ("msg_1", "tool_use", {**usage, "output_tokens": 9})
