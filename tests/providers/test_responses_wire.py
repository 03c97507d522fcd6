"""providers.responses_wire: the calls that are sent through the Responses API, and their requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.base import Body, Options, Refusal
from providers.responses_wire.models import family_of, is_only_way
from providers.responses_wire.provider import OpenAI
from providers.responses_wire.request import LEAST_CAP
from tests.providers.adapting import Adapted, adapt, target_for
from tests.providers.everything import WEATHER
from tests.providers.strict_responses import response_objections
from tests.support.each import each

TOOLS: dict[str, Any] = {"tools": [WEATHER]}
CUSTOM = {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "s: /x/"}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
RUN = {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "x"}}
SEALED = {
    "type": "reasoning.encrypted", "format": "openai-responses-v1", "id": "rs_1", "data": "gAAA", "index": 0,
    "origin": "openai", "summary": ["Look it up."], "position": 0,
}  # fmt: skip
USER = {"role": "user", "content": "Hi"}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def send(request: dict[str, Any], model: str = "gpt-5.6", **settings: Any) -> Adapted:
    """Adapt a request that is sent through the Responses API, and check that the API accepts it."""
    adapted = adapt("openai", request, model=model, **settings)
    assert "messages" not in adapted.sent
    assert response_objections(adapted.sent, reasons=family_of(model) is not None) == []
    return adapted


@each(
    ("model", "request_", "by_responses"),
    [
        ("gpt-5.6", TOOLS, True),
        ("gpt-5.6-terra", {**TOOLS, "reasoning_effort": "high"}, True),
        ("gpt-5.6", {**TOOLS, "reasoning_effort": "none"}, False),
        ("gpt-5.6", {}, False),
        ("gpt-5.6", {"tools": []}, False),
        ("gpt-5.6", {"functions": [{"name": "f"}]}, True),
        ("gpt-5.4", TOOLS, False),
        ("gpt-5.4", {**TOOLS, "reasoning_effort": "low"}, True),
        ("gpt-6-astra", TOOLS, True),
        ("gpt-7", TOOLS, True),
        ("gpt-5", TOOLS, False),
        ("gpt-4o", TOOLS, False),
        ("gpt-5.5-pro", {}, True),
        ("gpt-9-pro", {}, True),
        ("gpt-5.3-codex", {}, True),
        ("gpt-8-codex-max", {}, True),
        ("codex-mini-latest", {}, True),
        ("o3-deep-research-2025-06-26", {}, True),
        ("o1-pro", {}, True),
        ("o1", TOOLS, False),
    ],
)
@each("kind", ["openai", "azure"])
def test_calls_take_the_responses_api_where_they_need_it(kind: str, model: str, request_: dict[str, Any], by_responses: bool) -> None:
    sent = adapt(kind, request_, model=model).sent
    assert ("input" in sent, "messages" in sent) == (by_responses, not by_responses)


@each(("setting", "by_responses"), [("auto", False), ("chat", False), ("responses", True)])
def test_setting_forces_or_forbids_the_responses_api(setting: str, by_responses: bool) -> None:
    assert ("input" in adapt("openai", {}, model="gpt-4o", upstream_api=setting).sent) is by_responses
    assert ("input" in adapt("openai", TOOLS, model="gpt-5.6", upstream_api=setting).sent) is (setting != "chat")


@each(
    ("settings", "path"),
    [
        ({}, "/v1/responses"),
        ({"api": "classic", "api_version": "2025-04-01-preview"}, "/v1/responses?api-version=2025-04-01-preview"),
        ({"api": "classic", "api_version": "2024-10-21"}, "/v1/deployments/gpt-5.6/chat/completions?api-version=2024-10-21"),
    ],
)
def test_azure_has_responses_at_its_own_path(settings: dict[str, Any], path: str) -> None:
    target, options = target_for("azure", "gpt-5.6", **settings), Options()
    body = Body(b'{"messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}')
    target.kind.adapt(body, target, options)
    assert target.kind.encode(body, target, options).path == path


def test_openai_has_responses_beside_chat() -> None:
    target, options = target_for("openai", "gpt-5.5-pro"), Options()
    body = Body(b'{"messages":[{"role":"user","content":"Hi"}]}')
    target.kind.adapt(body, target, options)
    assert target.kind.encode(body, target, options).path == "/v1/responses"
    assert isinstance(target.kind, OpenAI)
    assert is_only_way("gpt-5.5-pro")


def test_conversation_becomes_items() -> None:
    image, file = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}, {"type": "file", "file": {"file_id": "file_1"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, image, file]},
        {"role": "assistant", "content": "Well", "tool_calls": [CALL, RUN]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}, image]},
        {"role": "tool", "tool_call_id": "call_2", "content": "done"},
        {"role": "assistant", "content": None, "refusal": "No."},
        USER,
    ]
    picture = {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"}
    assert send({"messages": messages, **TOOLS}).sent["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, picture, {"type": "input_file", "file_id": "file_1"}]},
        {"role": "assistant", "content": "Well"},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "run", "input": "x"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "sunny"}, picture]},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Hi"},
    ]


def test_parameters_move_to_their_places() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    adapted = send({
        "tools": [WEATHER, CUSTOM], "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
        "verbosity": "low", "reasoning_effort": "max", "max_tokens": 50, "parallel_tool_calls": False, "service_tier": "flex",
        "metadata": {"a": "b"}, "safety_identifier": "u", "prompt_cache_key": "k", "include_reasoning": True, "stream": True,
    })  # fmt: skip
    function = WEATHER["function"]
    grammar = {"type": "grammar", "syntax": "lark", "definition": "s: /x/"}
    assert {name: value for name, value in adapted.sent.items() if name not in ("input", "model")} == {
        "tools": [{"type": "function", **function, "strict": False}, {"type": "custom", "name": "run", "format": grammar}],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": True}, "verbosity": "low"},
        "reasoning": {"effort": "max", "summary": "auto"}, "max_output_tokens": 50, "parallel_tool_calls": False,
        "service_tier": "flex", "metadata": {"a": "b"}, "safety_identifier": "u", "prompt_cache_key": "k", "stream": True,
        "include": ["reasoning.encrypted_content"], "store": False,
    }  # fmt: skip


def test_allowed_tools_lose_their_wrapper() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_weather"}}]}
    sent = send({**TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}).sent
    assert sent["tool_choice"] == {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]}


@each("name", ["seed", "logit_bias", "frequency_penalty", "prediction", "modalities", "web_search_options"])
def test_what_only_chat_completions_have_is_dropped_or_refused(name: str) -> None:
    values = {"seed": 7, "logit_bias": {"5": 1}, "frequency_penalty": 1, "prediction": {"type": "content", "content": "x"}}
    request = {**TOOLS, name: values.get(name, ["text", "audio"] if name == "modalities" else {"search_context_size": "low"})}
    assert (name, "drop") in send(request).actions()
    with pytest.raises(Refusal) as caught:
        adapt("openai", request, model="gpt-5.6", strict=True)
    assert caught.value.param == name


@each(("request_", "action"), [({"n": 2}, ("n", "fan_out")), ({"stop": ["x"]}, ("stop", "enforce_locally"))])
def test_what_the_gateway_emulates_is_not_sent(request_: dict[str, Any], action: tuple[str, str]) -> None:
    assert action in send({**TOOLS, **request_}).actions()


def test_cap_below_the_least_is_raised_or_refused() -> None:
    assert send({"max_completion_tokens": 5}, "o3-pro").sent["max_output_tokens"] == LEAST_CAP
    assert send({"max_tokens": LEAST_CAP}, "o3-pro").sent["max_output_tokens"] == LEAST_CAP
    with pytest.raises(Refusal) as caught:
        adapt("openai", {"max_completion_tokens": 5}, model="o3-pro", strict=True)
    assert caught.value.param == "max_completion_tokens"


def test_probabilities_are_included_and_models_without_reasoning_get_none() -> None:
    sent = send({"logprobs": True, "top_logprobs": 3}, "gpt-4o", upstream_api="responses").sent
    assert (sent["include"], sent["top_logprobs"]) == (["message.output_text.logprobs"], 3)
    assert "include" not in send({}, "gpt-4o", upstream_api="responses").sent


@each("position", [0, 1, 9])
def test_own_reasoning_is_sent_back_at_its_place(position: int) -> None:
    turn = {"role": "assistant", "content": "Well", "tool_calls": [CALL], "reasoning_content": "Look it up."}
    turn["reasoning_details"] = [{**SEALED, "position": position}]
    adapted = adapt("openai", {"messages": [USER, turn, RESULT], **TOOLS}, model="gpt-5.6", strict=True)
    assert response_objections(adapted.sent) == []
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Look it up."}], "encrypted_content": "gAAA"}
    assert [index for index, item in enumerate(adapted.sent["input"]) if item == thought] == [1 + min(position, 1)]
    assert ("messages[1].reasoning_content", "drop") in adapted.actions()


@each(
    "detail",
    [{**SEALED, "origin": "azure"}, {**SEALED, "format": "anthropic-claude-v1"}, {"type": "reasoning.text", "text": "x"}, "x", None],
)
def test_reasoning_of_another_provider_is_dropped_or_refused(detail: Any) -> None:
    messages = [USER, {"role": "assistant", "content": "Well", "reasoning_details": [detail]}, USER]
    assert ("messages[1].reasoning_details", "drop") in send({"messages": messages, **TOOLS}).actions()
    with pytest.raises(Refusal) as caught:
        adapt("openai", {"messages": messages, **TOOLS}, model="gpt-5.6", strict=True)
    assert caught.value.param == "messages[1].reasoning_details"


def test_reasoning_of_an_empty_turn_is_left_out() -> None:
    sent = send({"messages": [USER, {"role": "assistant", "content": "", "reasoning_details": [SEALED]}, USER], **TOOLS}).sent
    assert [item["role"] for item in sent["input"]] == ["user", "assistant", "user"]


def test_audio_is_refused() -> None:
    audio = [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]
    with pytest.raises(Refusal) as caught:
        adapt("openai", {"messages": [{"role": "user", "content": audio}], **TOOLS}, model="gpt-5.6")
    assert caught.value.param == "messages[0].content[0]"


def test_long_call_ids_are_shortened_together() -> None:
    long = "call_" + "x" * 80
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": long}]}, {**RESULT, "tool_call_id": long}]
    items = send({"messages": messages, **TOOLS}).sent["input"]
    assert items[1]["call_id"] == items[2]["call_id"] != long


def test_deep_research_gets_the_data_source_that_it_requires() -> None:
    adapted = send({}, "o4-mini-deep-research")
    assert adapted.sent["tools"] == [{"type": "web_search_preview"}]
    assert ("tools", "set_default") in adapted.actions()


def test_text_of_a_refusal_part_is_kept() -> None:
    history = [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]}, USER]
    assert "I will not." in str(send({"messages": history, "tools": [WEATHER]}).sent["input"])


@each("field", ["tools", "reasoning_effort", "response_format"])
def test_passed_fields_keep_the_call_at_chat_completions(field: str) -> None:
    request = {"model": "m", "messages": [USER], "tools": [WEATHER], "reasoning_effort": "high", "response_format": {"type": "json_object"}}
    for fields, path in (((field,), "/v1/chat/completions"), (("new",), "/v1/responses")):
        target = msgspec.structs.replace(target_for("openai", "gpt-5.6"), pass_fields=fields)
        body, options = Body(msgspec.json.encode(request)), Options()
        target.kind.adapt(body, target, options)
        wire = target.kind.encode(body, target, options)
        assert wire.path == path
        if field in fields:
            assert msgspec.json.decode(wire.body)[field] == request[field]


def test_nulls_are_left_out() -> None:
    names = (
        "temperature",
        "top_p",
        "user",
        "metadata",
        "store",
        "stop",
        "verbosity",
        "response_format",
        "logprobs",
        "max_tokens",
        "service_tier",
    )
    adapted = adapt("openai", {**TOOLS, **dict.fromkeys(names)}, model="gpt-5.6", strict=True)
    assert response_objections(adapted.sent) == []
    assert adapted.sent["store"] is False
