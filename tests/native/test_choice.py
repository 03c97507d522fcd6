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
from gateway.native.request import check_expressible, refusal_of
from providers.base import Target
from tests.native.anthropic_fake import FIELDS

ANTHROPIC = Target("a/x", "a", providers.get("anthropic"), "claude-opus-5", "http://x/v1")
OTHER = Target("o/x", "o", providers.get("openai-compatible"), "x", "http://x/v1")


def call_of(dialect: Any = MESSAGES, **more: Any) -> Call:
    """Return a call that was read."""
    call = Call(dialect.operation, dialect.paths[0], dialect, dialect.translator())
    source = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **more}
    read_request(call, [], msgspec.json.encode(source), known_headers(), strict=False)
    read_parameters(call)
    return call


def test_only_a_provider_of_the_callers_api_gets_native_calls() -> None:
    assert native_api(call_of(), ANTHROPIC, ModelSettings()) is MESSAGES.native
    assert translation_reason(call_of(), OTHER, ModelSettings()) == "openai-compatible does not speak this API"
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
