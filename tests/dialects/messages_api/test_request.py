"""Requests of the Messages API become chat completions, and names in errors become the caller's again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.messages_api.changes import MAX_LISTED, Changes
from gateway.dialects.messages_api.content import content_of
from gateway.dialects.messages_api.conversation import Conversation
from gateway.dialects.messages_api.fields import Fields, decode_object, encode
from gateway.dialects.messages_api.origin import Origin
from gateway.dialects.messages_api.request import Translated, callers_name, translate_request
from gateway.dialects.messages_api.tools import FORMAT_NAME
from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest
from providers.base import Body

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}


def text(value: str = "hello", **more: Any) -> dict[str, Any]:
    """Return a text block."""
    return {"type": "text", "text": value, **more}


def accept(translated: Translated) -> Translated:
    """Return a translation, or raise the refusal of a request that a chat completion cannot express."""
    if translated.refusal is not None:
        raise translated.refusal
    return translated


def translated(*turns: dict[str, Any], strict: bool = False, **more: Any) -> Translated:
    """Translate a request and check that the result is a valid chat completion."""
    body = {"model": "m", "max_tokens": 10, "messages": list(turns) or [user("hello")], **more}
    result = translate_request(json.dumps(body).encode(), strict=strict)
    check_parameters(Body(result.body))
    return result


def chat(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the chat completion that a request becomes. Nothing may be lost."""
    result = translated(*turns, strict=True, **more)
    body: dict[str, Any] = json.loads(result.body)
    return body


def user(content: Any) -> dict[str, Any]:
    """Return a user's turn."""
    return {"role": "user", "content": content}


def assistant(*content: Any) -> dict[str, Any]:
    """Return an assistant turn with these blocks."""
    return {"role": "assistant", "content": list(content)}


def messages(*turns: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Return the messages of the chat completion."""
    listed: list[dict[str, Any]] = chat(*turns, **more)["messages"]
    return listed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_sequences": []}, {}),
        ({"stop_sequences": None}, {}),
        ({"stream": True}, {"stream": True}),
        ({"stream": False}, {"stream": False}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {"user_id": None}}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        ({"container": "c", "inference_geo": "us", "speed": "fast"}, {"container": "c", "inference_geo": "us", "speed": "fast"}),
        ({"tools": None, "tool_choice": None, "output_config": None, "system": None, "thinking": None}, {}),
        ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
        ({"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
         {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"tools": [TOOL], "tool_choice": {"type": "none", "disable_parallel_tool_use": False}}, {"tool_choice": "none"}),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
         {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ({"x_unknown": [1]}, {"x_unknown": [1]}),
    ],
)  # fmt: skip
def test_parameters_get_the_names_of_a_chat_completion(given: dict[str, Any], expected: dict[str, Any]) -> None:
    body = chat(**given)
    assert body.pop("messages") == [{"role": "user", "content": "hello"}]
    assert (body.pop("model"), body.pop("max_tokens")) == ("m", 10)
    body.pop("tools", None)
    assert body == expected


def test_tools_become_functions() -> None:
    given = [{**TOOL, "strict": True, **MARK}, {"type": "custom", "name": "b", "input_schema": {"type": "object"}}]
    assert chat(tools=given)["tools"] == [
        {
            "type": "function",
            "function": {"name": "look", "description": "Looks.", "parameters": TOOL["input_schema"], "strict": True},
            **MARK,
        },
        {"type": "function", "function": {"name": "b", "parameters": {"type": "object"}}},
    ]


@pytest.mark.parametrize("field", ["output_format", "output_config"])
def test_a_json_schema_becomes_the_response_format(field: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    body = chat(**{field: form if field == "output_format" else {"format": form}})
    schema = {"name": FORMAT_NAME, "schema": {"type": "object"}, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("Be brief.", [{"role": "system", "content": "Be brief."}]),
        ([text("a", **MARK), text("b")], [{"role": "system", "content": [text("a", **MARK), text("b")]}]),
        ("", []),
        ([], []),
    ],
)
def test_the_system_prompt_is_the_first_message(system: Any, expected: list[Any]) -> None:
    assert messages(system=system) == [*expected, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (text("a"), text("a")),
        (text("a", **MARK), text("a", **MARK)),
        (text("a", cache_control=None, citations=None), text("a")),
        (IMAGE, PNG),
        ({**IMAGE, **MARK}, {**PNG, **MARK}),
        ({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
         {"type": "image_url", "image_url": {"url": "https://a/b.png"}}),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}, "title": "t"},
         {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "t"}}),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hé"},
          "citations": {"enabled": False}},
         {"type": "file", "file": {"file_data": "data:text/plain;base64,aMOp"}}),
        ({"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
         {"type": "file", "file": {"file_data": "https://a/b.pdf"}}),
    ],
)  # fmt: skip
def test_content_blocks_become_parts(block: dict[str, Any], part: dict[str, Any]) -> None:
    assert messages(user([text("first"), block])) == [user([text("first"), part])]
    changes = Changes(strict=True)
    raw: Fields = decode_object(encode({"content": [block]}))
    assert json.loads(encode(content_of(raw["content"], "content", changes))) == [part]


def test_a_document_of_blocks_and_a_search_result_become_texts() -> None:
    source = {"type": "content", "content": [text("a"), IMAGE]}
    found = {"type": "search_result", "title": "T", "source": "https://s", "content": [text("c")], **MARK}
    document = {"type": "document", "source": source, "title": "D", "context": "C", **MARK}
    result = translated(user([document, found]), strict=True)
    expected = [text("C"), text("D"), text("a"), {**PNG, **MARK}, text("T\nhttps://s"), text("c", **MARK)]
    assert json.loads(result.body)["messages"] == [user(expected)]
    assert {each.action for each in result.adjustments} == {"reshape"}
    assert callers_name("messages[0].content[4].text", result.origins) == "messages[0].content[1].text"


def test_tool_calls_and_results_become_messages() -> None:
    turns = (
        user("look"),
        assistant(text("ok"), USE, {**USE, "id": "toolu_2", "caller": {"type": "direct"}, **MARK}),
        user(
            [
                {**RESULT, "is_error": True, **MARK},
                {**RESULT, "tool_use_id": "toolu_2", "content": [text("a"), IMAGE], "is_error": False},
                text("and?"),
            ]
        ),
    )
    calls = [{"id": id, "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}} for id in ("toolu_1", "toolu_2")]
    assert messages(*turns) == [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "ok", "tool_calls": calls, **MARK},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "seen", "is_error": True, **MARK},
        {"role": "tool", "tool_call_id": "toolu_2", "content": [text("a"), PNG]},
        {"role": "user", "content": [text("and?")]},
    ]


@pytest.mark.parametrize("content", [None, "", []])
def test_a_result_may_be_empty(content: Any) -> None:
    given = {"type": "tool_result", "tool_use_id": "toolu_1"} | ({} if content is None else {"content": content})
    assert messages(user("look"), assistant(USE), user([given]))[-1]["content"] == ""


def test_results_after_texts_are_sent_first_and_reported() -> None:
    result = translated(user("look"), assistant(USE), user([text("see"), RESULT]), strict=True)
    assert [each["role"] for each in json.loads(result.body)["messages"]] == ["user", "assistant", "tool", "user"]
    assert [(each.param, each.action) for each in result.adjustments] == [("messages[2].content[1]", "reshape")]


def test_signed_thinking_keeps_its_bytes() -> None:
    block = '{"type":"thinking","thinking":"h\\u00e9 \\/","signature":"c2ln+/=="}'
    hidden = '{"type":"redacted_thinking","data":"ZGF0YQ=="}'
    source = (
        '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"},'
        '{"role":"assistant","content":[' + block + "," + hidden + ',{"type":"text","text":"b"}]},{"role":"user","content":"c"}]}'
    )
    result = translate_request(source.encode(), strict=True)
    assert f'"thinking_blocks":[{block},{hidden}]'.encode() in result.body
    assert json.loads(result.body)["messages"][1]["reasoning_content"] == "hé /"


@pytest.mark.parametrize(("kind", "field"), [("thinking", "thinking"), ("redacted_thinking", "data")])
@pytest.mark.parametrize("value", [{}, {"thinking": 1, "data": 1}])
def test_error_of_a_thinking_block_names_its_field(kind: str, field: str, value: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        messages(user("a"), assistant({"type": kind, **value}, text("b")), user("c"))
    assert caught.value.param == f"messages[1].content[0].{field}"


def test_thinking_without_a_signature_is_sent_as_text() -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": ""}
    assert messages(user("a"), assistant(block, text("b")), user("c"))[1] == {
        "role": "assistant",
        "content": "b",
        "reasoning_content": "hm",
    }


def test_a_system_message_stays_in_its_place() -> None:
    assert messages(user("a"), {"role": "system", "content": "b"}, user("c"))[1] == {"role": "system", "content": "b"}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"metadata": {"user_id": "u", "x": 1}}, "metadata.x"),
        ({"output_config": {"effort": "low", "x": 1}}, "output_config.x"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{**TOOL, "input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"messages": [user([text("a", citations=[{"type": "char_location"}])])]}, "messages[0].content[0].citations"),
        ({"messages": [user([{**IMAGE, "transformations": {"oversized_image": "error"}}])]},
         "messages[0].content[0].transformations"),
        ({"messages": [user([{"type": "document", "source": {"type": "url", "url": "https://a"}, "citations": {"enabled": True}}])]},
         "messages[0].content[0].citations"),
        ({"messages": [user("a"), assistant({**USE, **MARK}, USE), user([RESULT])]}, "messages[1].content[0].cache_control"),
        ({"messages": [user("a"), assistant({**USE, "toolset_name": "t"}), user([RESULT])]}, "messages[1].content[0].toolset_name"),
    ],
)  # fmt: skip
def test_what_chat_cannot_express_is_reported_and_refused_in_strict_mode(given: dict[str, Any], param: str) -> None:
    body = json.dumps({"model": "m", "max_tokens": 10, "messages": [user("a")], **given}).encode()
    adjustments = translate_request(body, strict=False).adjustments
    assert [(each.param, each.action) for each in adjustments] == [(param, "drop")]
    with pytest.raises(BadRequest) as refused:
        accept(translate_request(body, strict=True))
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"max_tokens": None}, "max_tokens", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hello"}, "messages", "invalid_type"),
        ({"messages": [1]}, "messages", "invalid_type"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [user(1)]}, "messages[0].content", "invalid_type"),
        ({"messages": [user([{"text": "a"}])]}, "messages[0].content[0].type", "missing_required_parameter"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text", "missing_required_parameter"),
        ({"messages": [user([{"type": "text", "text": 1}])]}, "messages[0].content[0].text", "invalid_type"),
        ({"messages": [user([{"type": "server_tool_use"}])]}, "messages[0].content[0].type", "unsupported_content"),
        ({"messages": [user([USE])]}, "messages[0].content[0].type", "unsupported_content"),
        ({"messages": [assistant(IMAGE)]}, "messages[0].content[0].type", "unsupported_content"),
        ({"messages": [assistant({**USE, "input": "{}"})]}, "messages[0].content[0].input", "invalid_type"),
        ({"messages": [assistant({"type": "tool_use", "name": "a", "id": "b"})]}, "messages[0].content[0].input",
         "missing_required_parameter"),
        ({"messages": [user([{"type": "image"}])]}, "messages[0].content[0].source", "missing_required_parameter"),
        ({"messages": [user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])]},
         "messages[0].content[0].source", "unsupported_content"),
        ({"messages": [user([{"type": "image", "source": {"type": "x"}}])]}, "messages[0].content[0].source.type", "invalid_value"),
        ({"messages": [user([{**RESULT, "is_error": "yes"}])]}, "messages[0].content[0].is_error", "invalid_type"),
        ({"messages": [user([{**RESULT, "content": [USE]}])]}, "messages[0].content[0].content[0].type", "unsupported_content"),
        ({"system": 1}, "system", "invalid_type"),
        ({"system": [IMAGE]}, "system[0].type", "unsupported_content"),
        ({"stop_sequences": "a"}, "stop_sequences", "invalid_type"),
        ({"thinking": "on"}, "thinking", "invalid_type"),
        ({"metadata": []}, "metadata", "invalid_type"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id", "invalid_type"),
        ({"output_config": {"effort": 1}}, "output_config.effort", "invalid_type"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type", "invalid_value"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "missing_required_parameter"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema", "missing_required_parameter"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "unsupported_content"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type", "unsupported_content"),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_type"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type", "invalid_value"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "missing_required_parameter"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "tool_choice.disable_parallel_tool_use", "invalid_type"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"stop": ["a"]}, "stop", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_invalid_requests_are_refused_by_the_callers_names(given: dict[str, Any], param: str, code: str) -> None:
    body = json.dumps({"model": "m", "max_tokens": 10, "messages": [user("a")], **given}).encode()
    with pytest.raises(BadRequest) as refused:
        accept(translate_request(body, strict=False))
    assert (refused.value.param, refused.value.code) == (param, code)


def test_only_the_first_losses_of_a_kind_are_listed() -> None:
    blocks = [text("a", citations=[1]) for _ in range(MAX_LISTED + 4)]
    adjustments = translated(user(blocks)).adjustments
    assert len(adjustments) == MAX_LISTED + 1
    assert adjustments[-1].why.endswith("; 4 more of these")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_completion_tokens", "max_tokens"),
        ("stop[1]", "stop_sequences[1]"),
        ("response_format.json_schema", "output_config.format.json_schema"),
        ("tools[3].function.parameters.type", "tools[3].input_schema.type"),
        ("tools[3].function.name", "tools[3].name"),
        ("tools[3].function", "tools[3]"),
        ("tools", "tools"),
        ("messages[0].content", "system"),
        ("messages[0].content[1].cache_control", "system[1].cache_control"),
        ("messages[1].content[0]", "messages[0].content[2]"),
        ("messages[2].tool_calls[0].function", "messages[1].content[1]"),
        ("messages[2].tool_calls[0].function.arguments", "messages[1].content[1].input"),
        ("messages[3].role", "messages[2].content[0].tool_use_id"),
        ("messages[4].role", "messages[3].role"),
        ("messages[4].cache_control", "messages[3].content[5].cache_control"),
        ("messages[9]", "messages[9]"),
        ("messages", "messages"),
        ("temperature", "temperature"),
    ],
)
def test_names_are_those_of_the_caller(name: str, expected: str) -> None:
    origins = [
        Origin("system", [0, 1]),
        Origin("messages[0]", [2]),
        Origin("messages[1]", [], [1]),
        Origin("messages[2].content[0]"),
        Origin("messages[3]", mark=5),
    ]
    assert callers_name(name, origins) == expected


def test_a_conversation_records_where_its_messages_come_from() -> None:
    conversation = Conversation(Changes(strict=True))
    turns = [user("a"), assistant(text("b"), USE), user([RESULT, text("c")])]
    for index, turn in enumerate(turns):
        conversation.add_turn(decode_object(encode(turn)), index)
    params = [origin.param for origin in conversation.origins]
    assert params == ["messages[0]", "messages[1]", "messages[2].content[0]", "messages[2]"]


def test_a_cache_mark_of_a_tool_call_keeps_its_name() -> None:
    result = translated(user("look"), assistant(text("ok"), {**USE, **MARK}), user([RESULT]))
    assert callers_name("messages[1].cache_control", result.origins) == "messages[1].content[1].cache_control"
