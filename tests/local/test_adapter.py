"""providers.local.adapter: requests, chunks and errors of the engine, without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Body, Options, Refusal, Target
from providers.local.adapter import LOCAL
from providers.local.rules import BUNDLED_PENALTY
from providers.local.stream import EngineDecoder
from providers.local.tools import CallReader, call_schema
from tests.support.each import each

HI = [{"role": "user", "content": "Hi"}]
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "get_time"}}


def target(**settings: Any) -> Target:
    """Return a target with these settings."""
    return Target(name="local/m", provider="local", kind=LOCAL, model="m", base_url="http://engine/v1", options=settings)


def adapted(
    body: dict[str, Any], *, strict: bool = False, stream: bool = False, settings: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, str], Options]:
    """Return the request, the adjustments by parameter, and the options of the attempt."""
    options = Options(strict=strict, stream=stream)
    parsed = Body(json.dumps({"model": "any", "messages": HI, **body}).encode())
    adjustments = LOCAL.adapt(parsed, target(**settings or {}), options)
    sent: dict[str, Any] = json.loads(LOCAL.encode(parsed, target(**settings or {}), options).body)
    return sent, {adjustment.param: adjustment.action for adjustment in adjustments}, options


@pytest.mark.parametrize("stream", [False, True])
def test_every_request_streams_with_progress_and_usage(stream: bool) -> None:
    sent, _, _ = adapted({"stream": stream}, stream=stream)
    assert (sent["stream"], sent["return_progress"], sent["stream_options"]) == (True, True, {"include_usage": True})
    assert sent["model"] == "m"


def test_default_system_message_and_temperature_are_set_and_reported() -> None:
    sent, reported, _ = adapted({})
    assert sent["messages"] == [{"role": "system", "content": "You are a helpful assistant."}, *HI]
    assert sent["temperature"] == 0
    assert sent["repeat_penalty"] == BUNDLED_PENALTY
    assert reported == {"messages[0]": "set_default", "temperature": "set_default", "repetition_penalty": "rename"}
    assert LOCAL.adapt(Body(json.dumps({"messages": HI}).encode()), target(), Options())[2].to == BUNDLED_PENALTY


@each("more", [
    {"repetition_penalty": 1}, {"frequency_penalty": 0.5}, {"presence_penalty": 0.5}, {"response_format": {"type": "json_object"}},
    {"tools": [WEATHER], "tool_choice": "required"},
])  # fmt: skip
def test_a_penalty_of_the_caller_and_output_in_a_format_get_no_default_penalty(more: dict[str, Any]) -> None:
    assert adapted(more)[0].get("repeat_penalty") == more.get("repetition_penalty")


def test_another_model_gets_no_default_penalty() -> None:
    assert "repeat_penalty" not in adapted({}, settings={"model": "/models/other.gguf"})[0]


def test_answers_contain_the_model_that_the_caller_asked_for() -> None:
    _, _, options = adapted({})
    chunk = b'{"choices":[{"delta":{"content":"\\"model\\":\\"local\\""}}],"id":"x","model":"local","object":"chat.completion.chunk"}'
    (sent,) = EngineDecoder(options).feed("", chunk)
    assert sent == chunk.replace(b',"model":"local"', b',"model":"any"')
    whole = LOCAL.decode(b'{"model":"m","data":[],"object":"list"}', target(), Options(operation="embeddings", memo=options.memo))
    assert json.loads(whole.body)["model"] == "any"


def test_defaults_are_allowed_in_strict_mode() -> None:
    adapted({}, strict=True)


@pytest.mark.parametrize("system", ["system", "developer"])
def test_system_message_of_the_caller_is_kept(system: str) -> None:
    sent, reported, _ = adapted({"messages": [{"role": system, "content": "Be brief."}, *HI], "temperature": 1})
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *HI]
    assert "messages[0]" not in reported


@each("given", [{"temperature": 0.5}, {"top_p": 0.5}, {"seed": 1}, {"top_k": 5}, {"min_p": 0.1}])
def test_no_default_temperature_if_the_caller_sets_a_sampling_parameter(given: dict[str, Any]) -> None:
    sent, reported, _ = adapted(given)
    assert sent.get("temperature") == given.get("temperature")
    assert "temperature" not in reported


def test_settings_define_both_defaults() -> None:
    sent, _, _ = adapted({}, settings={"system": None, "temperature": None})
    assert sent["messages"] == HI
    assert "temperature" not in sent
    sent, _, _ = adapted({}, settings={"system": "Talk like a pirate.", "temperature": 0.3})
    assert sent["messages"][0]["content"] == "Talk like a pirate."
    assert sent["temperature"] == 0.3


@each(
    ("param", "value", "bound"),
    [
        ("temperature", 3, 2),
        ("temperature", -1, 0),
        ("top_p", 5, 1),
        ("presence_penalty", -9, -2),
        ("frequency_penalty", 9, 2),
        ("min_p", 2, 1),
    ],
)
def test_values_out_of_range_are_clamped_and_refused_in_strict_mode(param: str, value: float, bound: float) -> None:
    sent, reported, _ = adapted({param: value})
    assert sent[param] == bound
    assert reported[param] == "clamp"
    with pytest.raises(Refusal) as caught:
        adapted({param: value}, strict=True)
    assert caught.value.param == param


@each(
    ("body", "param"),
    [
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"n": 9}, "n"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}, "messages[0].content[0]"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tools[0].type"),
        ({"seed": [1, 2]}, "seed"),
    ],
)
def test_unsupported_values_are_refused_with_the_parameter_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        adapted(body)
    assert caught.value.param == param


def test_choices_up_to_the_slots_are_native() -> None:
    assert adapted({"n": 4})[0]["n"] == 4
    assert adapted({"n": 8}, settings={"slots": 8})[0]["n"] == 8
    sent, reported, _ = adapted({"n": 5})
    assert "n" not in sent
    assert reported["n"] == "fan_out"


def test_unsupported_parameters_are_dropped_and_reported() -> None:
    sent, reported, _ = adapted({"eos_token": [5], "service_tier": "flex", "made_up": 1})
    assert not {"eos_token", "service_tier", "made_up"} & set(sent)
    assert reported["eos_token"] == reported["service_tier"] == reported["made_up"] == "drop"
    with pytest.raises(Refusal):
        adapted({"eos_token": [5]}, strict=True)


def test_parameters_are_renamed_for_the_engine() -> None:
    sent, reported, _ = adapted({"repetition_penalty": 1.2, "max_completion_tokens": 5})
    assert (sent["repeat_penalty"], sent["max_tokens"]) == (1.2, 5)
    assert reported["repetition_penalty"] == reported["max_completion_tokens"] == "rename"


@each(("seed", "sent_seed"), [(5, 5), (-1, 2**32 - 2), (2**32 - 1, 0), (2**40 + 7, 263)])
def test_seeds_are_folded_to_32_bits(seed: int, sent_seed: int) -> None:
    sent, reported, _ = adapted({"seed": seed})
    assert sent["seed"] == sent_seed
    assert ("seed" in reported) == (seed != sent_seed)


def test_empty_stop_strings_are_dropped() -> None:
    assert adapted({"stop": ["", "end"]})[0]["stop"] == ["end"]
    sent, reported, _ = adapted({"stop": ""})
    assert "stop" not in sent
    assert reported["stop"] == "drop"


def test_unanchored_patterns_cause_a_warning() -> None:
    def form(pattern: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}

    assert adapted(form("[a-z]+"))[1]["response_format"] == "warn"
    assert "response_format" not in adapted(form("^[a-z]+$"))[1]


# --- tools ---


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_forced_call_becomes_a_schema(choice: Any) -> None:
    sent, reported, _ = adapted({"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False})
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(sent)
    assert reported["tool_choice"] == "reshape"
    schema = sent["response_format"]["json_schema"]["schema"]
    jsonschema.validate({"name": "get_weather", "arguments": {"city": "Paris"}}, schema)
    for wrong in ({"name": "other", "arguments": {"city": "Paris"}}, {"name": "get_weather", "arguments": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert "get_weather(city): The weather" in sent["messages"][0]["content"]


def test_required_allows_any_of_several_functions_each_with_its_own_arguments() -> None:
    sent, _, _ = adapted({"tools": [WEATHER, CLOCK], "tool_choice": "required"})
    schema = sent["response_format"]["json_schema"]["schema"]
    jsonschema.validate({"name": "get_time", "arguments": {}}, schema)
    jsonschema.validate({"name": "get_weather", "arguments": {"city": "Rome"}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "get_weather", "arguments": {"town": "Rome"}}, schema)


def test_references_inside_parameters_stay_valid() -> None:
    parameters = {
        "$defs": {"unit": {"enum": ["c", "f"]}},
        "type": "object",
        "properties": {"unit": {"$ref": "#/$defs/unit"}},
        "required": ["unit"],
    }
    schema = call_schema([{"name": "f", "parameters": parameters}])
    jsonschema.validate({"name": "f", "arguments": {"unit": "c"}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "f", "arguments": {"unit": "k"}}, schema)


def test_optional_tools_are_dropped_or_refused_in_strict_mode() -> None:
    for choice in ({}, {"tool_choice": "auto"}):
        sent, reported, _ = adapted({"tools": [WEATHER], **choice})
        assert not {"tools", "tool_choice"} & set(sent)
        assert reported["tools"] == "drop"
        with pytest.raises(Refusal) as caught:
            adapted({"tools": [WEATHER], **choice}, strict=True)
        assert caught.value.param == "tools"


def test_tools_with_tool_choice_none_are_dropped_in_strict_mode_too() -> None:
    sent, _, _ = adapted({"tools": [WEATHER], "tool_choice": "none"}, strict=True)
    assert "tools" not in sent


def test_tools_pass_if_the_template_supports_them() -> None:
    sent, reported, _ = adapted({"tools": [WEATHER], "tool_choice": "auto"}, settings={"tools": True}, strict=True)
    assert sent["tools"] == [WEATHER]
    assert "tools" not in reported


def test_forced_call_replaces_the_response_format() -> None:
    body = {"tools": [WEATHER], "tool_choice": "required", "response_format": {"type": "json_object"}}
    assert adapted(body)[1]["response_format"] == "drop"
    with pytest.raises(Refusal):
        adapted(body, strict=True)


def test_earlier_tool_calls_and_results_become_plain_messages() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    sent, reported, _ = adapted({"messages": messages})
    assert sent["messages"][2:] == [
        {"role": "assistant", "content": '{"name": "get_weather", "arguments": "{\\"city\\":\\"Paris\\"}"}'},
        {"role": "user", "content": "Result of get_weather: sunny"},
    ]
    assert reported["messages[1].tool_calls"] == "reshape"
    assert reported["messages[2].role"] == "role_map"
    assert adapted({"messages": messages}, settings={"tools": True, "system": None})[0]["messages"] == messages


CALL = '{ "name" : "get_\\u0077eather",\n"arguments":  {"a": "}\\"{", "b": [1, {"c": {}}]}  }'


@given(st.lists(st.integers(1, 9), max_size=40))
def test_call_reader_handles_any_chunk_boundaries(cuts: list[int]) -> None:
    reader, arguments, index = CallReader(), "", 0
    for cut in [*cuts, len(CALL)]:
        arguments += reader.feed(CALL[index : index + cut])
        index += cut
    assert reader.name == "get_weather"
    assert json.loads(arguments) == {"a": '}"{', "b": [1, {"c": {}}]}


# --- the engine's stream ---


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """Return a chunk in the engine's format."""
    choice = {"finish_reason": finish, "index": index, "delta": delta or {}, **more.pop("choice", {})}
    return json.dumps({"choices": [choice], "id": "chatcmpl-1", "object": "chat.completion.chunk", **more}).encode()


def usage(prompt: int, completion: int) -> bytes:
    """Return the engine's usage chunk."""
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return json.dumps({"choices": [], "id": "chatcmpl-1", "usage": counted, "timings": {"prompt_ms": 1}}).encode()


def decoded(chunks: Sequence[bytes], body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the decoded stream of an answer to `body`."""
    decoder = LOCAL.decoder(target(), adapted(body or {})[2])
    assert isinstance(decoder, EngineDecoder)
    return [json.loads(item) for data in chunks for item in decoder.feed("", data)]


def test_progress_is_removed_and_text_keeps_its_bytes() -> None:
    text = chunk({"content": 'the words "prompt_progress" and "usage"'})
    decoder = EngineDecoder(Options())
    assert list(decoder.feed("", chunk({"role": "assistant"}, prompt_progress={"total": 9}))) == []
    assert [json.loads(item) for item in decoder.feed("", text)] == [json.loads(text)]
    plain = chunk({"content": "Hello"})
    assert decoder.feed("", plain)[0] is plain


def test_text_completion_has_the_id_of_a_text_completion() -> None:
    text = chunk({"content": 'the words "id":"chatcmpl-'})
    (sent,) = EngineDecoder(Options(operation="completions")).feed("", text.replace(b'"id": "', b'"id":"'))
    assert (json.loads(sent)["id"], json.loads(sent)["choices"]) == ("cmpl-1", json.loads(text)["choices"])


def test_usage_of_several_choices_is_added_up() -> None:
    chunks = decoded([usage(10, 3), chunk({"content": "x"}), usage(10, 5)], {"n": 2})
    assert [one["usage"] for one in chunks if "usage" in one] == [{"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18}]
    assert "timings" not in chunks[-1]


@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("prompts", [["a b c", "d"], [[1, 2, 3], [4]]])
def test_usage_of_several_prompts_is_added_up(choices: int, prompts: list[Any]) -> None:
    options = Options(operation="completions")
    LOCAL.adapt(Body(json.dumps({"model": "any", "prompt": prompts, "n": choices}).encode()), target(), options)
    decoder = EngineDecoder(options)
    chunks = [json.loads(item) for tokens in (1, 3) for _ in range(choices) for item in decoder.feed("", usage(tokens, 2))]
    output = 4 * choices
    assert [one["usage"] for one in chunks] == [{"prompt_tokens": 4, "completion_tokens": output, "total_tokens": 4 + output}]


def test_unrequested_alternatives_are_removed() -> None:
    token = {"token": "a", "logprob": -1, "top_logprobs": [{"token": "a", "logprob": -1}]}
    one = chunk({"content": "a"}, choice={"logprobs": {"content": [token]}})
    assert adapted({"logprobs": True})[0]["top_logprobs"] == 1
    assert decoded([one], {"logprobs": True})[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert decoded([one], {"logprobs": True, "top_logprobs": 1})[0]["choices"][0]["logprobs"]["content"] == [token]


def test_logprobs_false_requests_none() -> None:
    sent, _, _ = adapted({"logprobs": False, "top_logprobs": 0})
    assert not {"logprobs", "top_logprobs"} & set(sent)


def test_forced_call_is_streamed_as_a_tool_call() -> None:
    texts = ['{\n "na', 'me": "get_weather', '", "arguments": ', '{"city": "Pa', 'ris"}', "\n}"]
    chunks = decoded(
        [chunk({"role": "assistant", "content": None}), *(chunk({"content": text}) for text in texts), chunk(finish="stop")],
        {"tools": [WEATHER], "tool_choice": "required"},
    )
    calls = [call for one in chunks for call in one["choices"][0]["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "get_weather"
    assert calls[0]["id"].startswith("call_")
    assert all("id" not in call for call in calls[1:])
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"city": "Paris"}
    assert not any(one["choices"][0]["delta"].get("content") for one in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_truncated_forced_call_finishes_with_length() -> None:
    chunks = decoded(
        [chunk({"content": '{"name": "get_weather", "arguments": {"ci'}), chunk(finish="length")],
        {"tools": [WEATHER], "tool_choice": "required"},
    )
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


# --- the engine's errors ---


def failure(status: int, message: str, type_: str, **more: Any) -> Any:
    """Return the Failure for an error of the engine."""
    return LOCAL.failure(status, {}, json.dumps({"error": {"code": status, "message": message, "type": type_, **more}}).encode())


def test_prompt_too_long_is_a_client_error() -> None:
    message = "request (3031 tokens) exceeds the available context size (2048 tokens), try increasing it"
    result = failure(400, message, "exceed_context_size_error", n_prompt_tokens=3031, n_ctx=2048)
    assert (result.kind, result.status, result.code, result.param) == ("context_overflow", 400, "context_length_exceeded", "messages")


@pytest.mark.parametrize("message", ["Failed to parse messages: Missing 'role' in message", "image input is not supported - hint: mmproj"])
def test_client_errors_with_status_500_become_400(message: str) -> None:
    result = failure(500, message, "server_error")
    assert (result.kind, result.status, result.type) == ("client_error", 400, "invalid_request_error")


def test_engine_errors_stay_server_errors() -> None:
    assert failure(500, "Compute error.", "server_error").kind == "server_error"
    assert failure(503, "Loading model", "unavailable_error").kind == "overloaded"


def test_invalid_schema_names_response_format_and_the_reason() -> None:
    words = "Automatic parser generation failed: JSON schema error at #: unrecognized type nonsense"
    result = failure(400, f"Unable to generate parser for this template. {words}", "invalid_request_error")
    assert (result.kind, result.code, result.param) == ("client_error", "invalid_value", "response_format")
    assert result.message == "JSON schema error at #: unrecognized type nonsense"


def test_field_named_by_the_engine_becomes_the_param() -> None:
    assert failure(400, "Field 'n': Value must be between 1 <= value <= 4, but got 5", "invalid_request_error").param == "n"


def test_capabilities_come_from_the_rules() -> None:
    capabilities = LOCAL.capabilities("m")
    assert capabilities["temperature"]["default"] == 0
    assert capabilities["min_tokens"]["support"] == "adjusted"
    assert capabilities["n"]["max"] == 8
    assert capabilities["tool_choice"]["values"] == ["none", "required", "named"]
