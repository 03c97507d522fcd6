"""providers.anthropic: requests, answers and streams lose nothing that both APIs can express."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.streams.chunks import UNREADABLE_ERRORS
from providers.anthropic.provider import ANTHROPIC, NEW_VERSION
from providers.base import Options, Refusal, StreamFailure
from tests.providers import adapting
from tests.providers.adapting import adapt, target_for
from tests.support.each import each

OLD = {"anthropic_version": "2023-06-01"}


def sent(request: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the request that Anthropic gets."""
    return adapt("anthropic", {"max_tokens": 10_000, **request}, model="claude-sonnet-4-5", **more).sent


def decoded(**message: Any) -> Any:
    """Return a Messages answer in OpenAI's format."""
    target = target_for("anthropic")
    reported = {"id": "msg_1", "type": "message", "model": "claude", "stop_reason": "end_turn", "content": [], **message}
    return target.kind.decode(json.dumps(reported).encode(), target, Options())


def streamed(*events: dict[str, Any]) -> list[Any]:
    """Return the chunks for named events."""
    target = target_for("anthropic")
    decoder = target.kind.decoder(target, Options(stream=True))
    assert decoder is not None
    out = [chunk for event in events for chunk in decoder.feed(event["type"], json.dumps(event).encode())]
    return [item if item == b"[DONE]" else json.loads(item) for item in out]


def test_images_become_base64_or_url_sources() -> None:
    parts = [
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
    ]
    assert sent({"messages": [{"role": "user", "content": parts}]})["messages"][0]["content"] == [
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}, "title": "a.pdf"},
    ]


def test_results_of_parallel_tool_calls_share_one_message() -> None:
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}} for name in ("c1", "c2")]
    source = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": "Well?"},
    ]
    result = sent({"messages": source})["messages"]
    assert [turn["role"] for turn in result] == ["user", "assistant", "user", "user"]
    assert [block["type"] for block in result[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in result[2]["content"]] == ["c1", "c2"]
    assert result[2]["content"][1]["content"] == [{"type": "text", "text": "2"}]


@pytest.mark.parametrize("arguments", ["[1", "[1]", '{"a":NaN}', '{"a":"\\ud83d"}', "5", "null", "[" * 5000])
def test_tool_arguments_that_are_not_an_object_are_sent_in_one_or_refused_with_their_path(arguments: str) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    messages.append({"role": "tool", "tool_call_id": "c", "content": "bad arguments"})
    adapted = adapting.adapt("anthropic", {"messages": messages})
    param = "messages[1].tool_calls[0].function.arguments"
    assert adapted.sent["messages"][1]["content"][0]["input"] == {"INVALID_JSON": arguments}
    assert (param, "reshape") in adapted.actions()
    with pytest.raises(Refusal) as refused:
        adapting.adapt("anthropic", {"messages": messages}, strict=True)
    assert refused.value.param == param


def test_a_cached_system_message_stays_a_block() -> None:
    part = {"type": "text", "text": "Long", "cache_control": {"type": "ephemeral"}}
    source = [{"role": "system", "content": [part]}, {"role": "user", "content": "Hi"}]
    assert sent({"messages": source})["system"] == [part]


@each(
    ("choice", "parallel", "wire"),
    [
        ("auto", None, {"type": "auto"}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, True, None),
    ],
)
def test_tool_choices_are_mapped_to_anthropic_words(choice: Any, parallel: Any, wire: Any) -> None:
    request: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    if choice is not None:
        request["tool_choice"] = choice
    if parallel is not None:
        request["parallel_tool_calls"] = parallel
    result = sent(request)
    assert result.get("tool_choice") == wire
    assert result["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


def test_effort_budget_and_format_move_to_anthropic_fields() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "o", "schema": {"type": "object"}}}
    request = {"reasoning_effort": "high", "response_format": schema, "reasoning_budget": 2000, "max_tokens": 9000}
    result = adapt("anthropic", request, model="claude-opus-4-5").sent
    closed = {"type": "object", "additionalProperties": False}
    assert result["output_config"] == {"format": {"type": "json_schema", "schema": closed}, "effort": "high"}
    assert result["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert sent({"reasoning_effort": "none"})["thinking"] == {"type": "disabled"}
    newer = adapt("anthropic", {"reasoning_effort": "low"}, model="claude-opus-4-8").sent
    assert (newer["thinking"], newer["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})


def test_thinking_budget_above_max_tokens_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        sent({"reasoning_budget": 20_000})
    assert refused.value.param == "reasoning_budget"


def test_sampling_parameters_depend_on_api_version_and_model() -> None:
    requested = {"temperature": 0.5, "top_k": 5}
    assert "temperature" not in sent(requested)
    kept = sent(requested, **OLD)
    assert (kept["temperature"], kept["top_k"]) == (0.5, 5)
    assert "temperature" not in adapt("anthropic", requested, model="claude-opus-5", **OLD).sent
    both = adapt("anthropic", {"temperature": 0.5, "top_p": 0.5}, model="claude-sonnet-4-5", **OLD)
    assert "top_p" not in both.sent
    assert ("top_p", "drop") in both.actions()


def test_user_becomes_metadata_user_id_and_other_metadata_is_dropped() -> None:
    result = adapt("anthropic", {"user": "u-1", "metadata": {"a": "b"}})
    assert result.sent["metadata"] == {"user_id": "u-1"}
    assert [pair for pair in result.actions() if pair[0] in ("user", "metadata")] == [("metadata", "drop"), ("user", "reshape")]


def test_settings_define_the_default_max_tokens_and_headers() -> None:
    result = adapt("anthropic", {}, default_max_tokens=77, anthropic_beta="b1,b2", workspace="w")
    assert result.sent["max_tokens"] == 77
    assert (result.headers["anthropic-beta"], result.headers["anthropic-workspace-id"]) == ("b1,b2", "w")


def test_answer_keeps_text_tool_calls_thinking_and_usage() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "A"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": "é"}},
    ]
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 4,
        "output_tokens": 8,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    result = decoded(content=content, stop_reason="tool_use", usage=usage)
    body = json.loads(result.body)
    message = body["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("A", "hm")
    assert message["tool_calls"] == [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}}]
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.usage.cached_tokens, result.usage.reasoning_tokens) == (
        7,
        8,
        4,
        3,
    )
    assert result.finish_reasons == ("tool_calls",)
    answer = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    assert sent({"messages": [{"role": "user", "content": "Hi"}, message, answer]})["messages"][1]["content"] == content


@each(
    ("reason", "meaning"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("pause_turn", "stop"), ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"), ("tool_use", "tool_calls"), ("refusal", "content_filter"),
    ],
)  # fmt: skip
def test_stop_reasons_become_openai_finish_reasons(reason: str, meaning: str) -> None:
    assert decoded(stop_reason=reason).finish_reasons == (meaning,)


@pytest.mark.parametrize("said", ["END", None])
def test_stream_reports_the_matched_stop_sequence(said: str | None) -> None:
    result = streamed(
        {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": said}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    choice = result[-3]["choices"][0]
    assert (choice["finish_reason"], choice.get("stop_sequence")) == ("stop", said)


def test_stream_keeps_thinking_signatures_and_calls_without_arguments() -> None:
    result = streamed(
        {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "c", "name": "f", "input": {}}},
        {"type": "content_block_stop", "index": 1},
        {"type": "something_new", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    assert result[-1] == b"[DONE]"
    assert result[-2]["usage"]["total_tokens"] == 12
    deltas = [item["choices"][0]["delta"] for item in result[:-2]]
    assert [delta["thinking_blocks"] for delta in deltas if "thinking_blocks" in delta] == [
        [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    ]
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == "{}"
    assert result[-3]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("kind", "meaning"), [("overloaded_error", "overloaded"), ("rate_limit_error", "rate_limit"), ("api_error", "server_error")]
)
def test_error_event_fails_like_the_corresponding_http_status(kind: str, meaning: str) -> None:
    with pytest.raises(StreamFailure) as failed:
        streamed({"type": "error", "error": {"type": kind, "message": "sorry"}})
    assert (failed.value.failure.kind, failed.value.failure.message) == (meaning, "sorry")


def test_version_decides_the_header_of_the_credential() -> None:
    new, old = target_for("anthropic"), target_for("anthropic", **OLD)
    assert ANTHROPIC.authorization(new) == [("anthropic-version", NEW_VERSION), ("authorization", "Bearer KEY")]
    assert ANTHROPIC.authorization(old) == [("anthropic-version", "2023-06-01"), ("x-api-key", "KEY")]


def test_a_call_of_a_custom_tool_keeps_its_input() -> None:
    call = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "hi"}}
    result = {"role": "tool", "tool_call_id": "a", "content": "r"}
    history = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    blocks = sent({"messages": history})["messages"][1]["content"]
    assert blocks == [{"type": "tool_use", "id": "a", "name": "f", "input": {"input": "hi"}}]


@each(
    ("kind", "field"),
    [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature"), ("input_json_delta", "partial_json")],
)
def test_a_delta_that_is_not_a_string_is_unreadable(kind: str, field: str) -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}
    for value in (["x"], {"a": 1}, 5):
        with pytest.raises(UNREADABLE_ERRORS):
            streamed(block, {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: value}})
