"""The choice between a native and a translated attempt."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import providers
from gateway.attempts.read_request import read_parameters, read_request
from gateway.call import Call
from gateway.config.model import ContextConfig, ModelSettings
from gateway.dialects.native_api import CHAT_FIELDS
from gateway.dialects.request_headers import known_headers
from gateway.dialects.table import CHAT, MESSAGES
from gateway.errors import BadRequest
from gateway.native.choice import REASONS, native_api, translation_reason
from gateway.native.request import adapt_natively, check_expressible, refusal_of
from providers.base import Refusal, Target
from tests.native.anthropic_fake import FIELDS

ANTHROPIC = Target("a/x", "a", providers.get("anthropic"), "claude-opus-5", "http://x/v1")
OTHER = Target("o/x", "o", providers.get("openai-compatible"), "x", "http://x/v1")


def call_of(dialect: Any = MESSAGES, **more: Any) -> Call:
    """Return a call whose request has been read."""
    call = Call(dialect.operation, dialect.paths[0], dialect, dialect.translator())
    source = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **more}
    read_request(call, [], msgspec.json.encode(source), known_headers(), strict=False)
    read_parameters(call)
    return call


def test_only_a_provider_of_the_callers_api_gets_native_calls() -> None:
    assert native_api(call_of(), ANTHROPIC, ModelSettings()) is MESSAGES.native
    assert translation_reason(call_of(), OTHER, ModelSettings()) == "openai-compatible does not have this API"
    assert native_api(call_of(CHAT), ANTHROPIC, ModelSettings()) is None


@pytest.mark.parametrize(
    ("settings", "more", "reason"),
    [
        (ModelSettings(context=ContextConfig()), {}, 0),
        (ModelSettings(), {"prompt_truncate_len": 100}, 0),
        (ModelSettings(continue_on_cut=True), {"stream": True}, 1),
        (ModelSettings(continue_on_cut=True), {}, None),
        (ModelSettings(json_repair=True), {"output_config": {"format": {"type": "json_schema", "schema": {}}}}, 2),
        (ModelSettings(json_repair=True), {}, None),
        (ModelSettings(), {"stop_sequences": ["x"], "include_stop_str_in_output": True}, 4),
        (ModelSettings(), {"stop_sequences": ["x"]}, None),
    ],
)
def test_what_only_the_gateway_can_do_is_translated(settings: ModelSettings, more: dict[str, Any], reason: int | None) -> None:
    expected = None if reason is None else REASONS[reason][0]
    assert translation_reason(call_of(**more), ANTHROPIC, settings) == expected


@pytest.mark.parametrize(("more", "is_native"), [({}, True), ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "n"}]}, False)])
def test_strict_limit_translates_calls_that_a_translation_cannot_bound(more: dict[str, Any], is_native: bool) -> None:
    call = call_of(**more)
    assert native_api(call, ANTHROPIC, ModelSettings()) is MESSAGES.native
    call.strict_limits = True
    assert (native_api(call, ANTHROPIC, ModelSettings()) is MESSAGES.native) is is_native


def test_fields_of_the_api_and_unknown_ones_are_native_and_those_of_chat_alone_are_not() -> None:
    api = MESSAGES.native
    assert api is not None
    assert api.foreign_field(FIELDS | {"a_new_beta", "timeout_microseconds"}) is None
    for name in CHAT_FIELDS - FIELDS:
        assert api.foreign_field(FIELDS | {name}) == (name if name not in api.fields else None)
    assert {"seed", "min_p", "logit_bias", "frequency_penalty"} <= CHAT_FIELDS - api.fields


def test_content_of_one_vendor_is_refused_elsewhere_with_the_callers_name() -> None:
    used = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    called = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "ok"}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [used, called]}, {"role": "user", "content": [result]}]
    call = call_of(messages=turns, tool_choice={"type": "any"}, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    refusal = refusal_of(call)
    assert refusal is not None
    assert (refusal.param, refusal.code) == ("messages[1].content[0].type", "unsupported_content")
    assert call.translator is not None
    assert call.translator.param(refusal.param) == refusal.param
    with pytest.raises(BadRequest):
        check_expressible(call, [])
    check_expressible(call_of(), [])
    assert refusal_of(call_of()) is None


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-opus-4-5"])
def test_a_paused_turn_is_continued_and_a_prefill_follows_the_rules_of_the_model(model: str) -> None:
    used = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "text", "text": "I search."}, used]}]
    thinking = {"thinking": {"type": "adaptive"}} if model == "claude-opus-5" else {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert sent(model, messages=turns, max_tokens=2000, **thinking)["messages"] == turns
    turns[1]["content"] = "It is"
    with pytest.raises(Refusal):
        sent(model, messages=turns, max_tokens=2000, **thinking)


BLOCKS: tuple[dict[str, Any], ...] = (
    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
    {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": {"type": "web_fetch_result", "url": "https://a"}},
    {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"type": "code_execution_result", "stdout": ""}},
    {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": {}},
    {"type": "mcp_tool_use", "id": "m", "name": "f", "server_name": "s", "input": {}},
    {"type": "mcp_tool_result", "tool_use_id": "m", "content": "ok"},
    {"type": "container_upload", "file_id": "file_1"},
    {"type": "compaction", "content": "summary"},
    {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "citations": {"enabled": True}},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "f"}]},
    {"type": "a_block_of_tomorrow"},
)
FIELDS_OF_ANTHROPIC: tuple[dict[str, Any], ...] = (
    {"mcp_servers": [{"type": "url", "url": "https://a", "name": "s"}], "tools": [{"type": "mcp_toolset", "mcp_server_name": "s"}]},
    {"container": {"id": "c", "skills": [{"type": "anthropic", "skill_id": "pptx"}]}},
    {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    {"output_config": {"effort": "max", "task_budget": {"type": "tokens", "total": 9000}}},
    {"thinking": {"type": "adaptive", "display": "omitted"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    {"speed": "fast", "inference_geo": "us", "service_tier": "standard_only", "diagnostics": {"previous_message_id": None}},
    {"tools": [{"type": "computer_20251124", "name": "computer", "display_width_px": 1, "display_height_px": 1}],
     "tool_choice": {"type": "tool", "name": "computer"}},
    {"tools": [{"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}, {"type": "bash_20250124", "name": "bash"}],
     "tool_choice": {"type": "tool", "name": "bash"}},
    {"fallbacks": [{"model": "claude-sonnet-5"}], "a_field_of_tomorrow": {"x": 1}},
)  # fmt: skip


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block["type"]))
def test_every_block_of_anthropic_is_native(block: dict[str, Any], role: str) -> None:
    called = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [called]}, {"role": role, "content": [block]}]
    assert sent(messages=turns)["messages"] == turns


@pytest.mark.parametrize("fields", FIELDS_OF_ANTHROPIC, ids=lambda fields: ",".join(fields))
def test_every_field_of_anthropic_is_native(fields: dict[str, Any]) -> None:
    given = sent(**fields)
    assert {name: given[name] for name in fields} == fields


def sent(model: str = "claude-opus-5", **more: Any) -> dict[str, Any]:
    """Return the body that Anthropic gets for a native call in strict mode."""
    call, target = call_of(**more), msgspec.structs.replace(ANTHROPIC, model=model)
    api = native_api(call, target, ModelSettings())
    assert api is not None
    assert call.source is not None
    adapted = adapt_natively(call, call.source.copy(), api, target, strict=True)
    assert adapted.adjustments == []
    whole: dict[str, Any] = msgspec.json.decode(adapted.body.encode())
    return whole
