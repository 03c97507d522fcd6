"""JSON answers of OpenAI-like types get OpenAI's shape, as their streams do. An answer that has this shape keeps its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from providers.answers import read_answer
from providers.base import Options
from providers.rules.legacy_functions import ONLY_FUNCTIONS
from tests.providers.adapting import target_for
from tests.providers.test_stream_shapes import KINDS
from tests.providers.wires import answer
from tests.support.each import each

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CALLS = answer({"content": None, "tool_calls": [CALL]}, "tool_calls")
TEXT = answer({"content": "A"}, "stop", 2)


def decode(kind: str, body: dict[str, Any], *, sent_functions: bool = False) -> dict[str, Any]:
    """Return the answer that the caller gets. The openai package must accept it as an answer."""
    target, options = target_for(kind), Options(memo={ONLY_FUNCTIONS: True} if sent_functions else {})
    result: dict[str, Any] = json.loads(target.kind.decode(json.dumps(body).encode(), target, options).body)
    ChatCompletion.model_validate(result, strict=True)
    return result


def with_message(**changes: Any) -> dict[str, Any]:
    choice = CALLS["choices"][0]
    return {**CALLS, "choices": [{**choice, "message": {**choice["message"], **changes}}]}


@each("kind", KINDS)
@each(
    "body",
    [CALLS, TEXT, {**TEXT, "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "x": [1]}],
)
def test_answer_in_openais_shape_keeps_its_bytes(kind: str, body: dict[str, Any]) -> None:
    target = target_for(kind)
    source = json.dumps(body).encode()
    assert target.kind.decode(source, target, Options()).body == source


@each("kind", (*KINDS, "goodfire"))
@each("name", ["id", "object", "created", "model"])
@each("value", ["missing", None, ""])
def test_missing_identity_is_supplied(kind: str, name: str, value: Any) -> None:
    body = {key: given for key, given in TEXT.items() if key != name} if value == "missing" else {**TEXT, name: value}
    result = decode(kind, body)
    assert {key: given for key, given in result.items() if key != name} == {
        key: given for key, given in TEXT.items() if key != name
    }
    assert result["object"] == "chat.completion"
    assert result["id"]
    assert result["created"] > 0
    assert result["model"] == (target_for(kind).model if name == "model" else "m")


@each("kind", KINDS)
@each("indices", [[None, None], [0, 0], [-1, 0], ["0", "1"], [True, False]])
def test_choices_are_numbered(kind: str, indices: list[Any]) -> None:
    choices = [{**choice, "index": index} for choice, index in zip(TEXT["choices"], indices, strict=True)]
    assert [choice["index"] for choice in decode(kind, {**TEXT, "choices": choices})["choices"]] == [0, 1]


@each("kind", KINDS)
def test_order_of_choices_is_kept(kind: str) -> None:
    choices = TEXT["choices"][::-1]
    assert [choice["index"] for choice in decode(kind, {**TEXT, "choices": choices})["choices"]] == [1, 0]


@each("kind", KINDS)
@each("role", [None, "", "model", "ai"])
def test_role_is_the_assistants(kind: str, role: Any) -> None:
    assert decode(kind, with_message(role=role))["choices"][0]["message"]["role"] == "assistant"


@each("kind", KINDS)
@each("word", ["stop", "STOP", "end_turn", "tool_use"])
def test_answer_with_calls_ends_with_tool_calls(kind: str, word: str) -> None:
    body = {**CALLS, "choices": [{**CALLS["choices"][0], "finish_reason": word}]}
    target = target_for(kind)
    assert target.kind.decode(json.dumps(body).encode(), target, Options()).finish_reasons == ("tool_calls",)
    assert decode(kind, body)["choices"][0]["finish_reason"] == "tool_calls"
    body = {**CALLS, "choices": [{**CALLS["choices"][0], "finish_reason": "length"}]}
    assert decode(kind, body)["choices"][0]["finish_reason"] == "length"


@each("kind", KINDS)
@each(
    "calls",
    [
        [CALL, {}],
        [None, CALL],
        [CALL, {"id": "c2", "type": "function", "function": {"name": "", "arguments": "{}"}}],
        [CALL, {"id": "c2", "type": "function"}],
        [CALL, {"type": "web_search_call", "id": "w", "function": {"name": "s", "arguments": "{}"}}],
        [{**CALL, "type": None}],
        [{"id": "c1", "name": "f", "arguments": {"a": 1}}],
        [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}],
        CALL,
    ],
)
def test_calls_are_those_of_the_caller_in_openais_form(kind: str, calls: Any) -> None:
    assert decode(kind, with_message(tool_calls=calls))["choices"][0]["message"]["tool_calls"] == [CALL]


@each(("word", "reason"), [("content_filter: SAFETY", "content_filter"), ("MAX_TOKENS", "length")])
@each("more", [{}, {"message": None}])
def test_a_choice_that_was_withheld_has_an_empty_message(word: str, reason: str, more: dict[str, Any]) -> None:
    choices = [TEXT["choices"][0], {"index": 1, "finish_reason": word, **more}]
    given = decode("gemini", {**TEXT, "choices": choices})["choices"]
    assert given == [TEXT["choices"][0], {"index": 1, "finish_reason": reason, "message": {"role": "assistant", "content": None}}]


@each("word", ["stop", None, "error"])
def test_another_choice_without_a_message_is_no_answer(word: str | None) -> None:
    with pytest.raises(ValueError, match="neither an object 'message'"):
        read_answer(json.dumps({**TEXT, "choices": [{"index": 0, "finish_reason": word}]}).encode(), ())


@each("kind", KINDS)
def test_phantom_calls_leave_no_list(kind: str) -> None:
    message = decode(kind, with_message(content="A", tool_calls=[{}]))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "A"}


@each("arguments", ["", " ", None, {}])
def test_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    calls = [{**CALL, "function": {"name": "f", "arguments": arguments}}]
    message = decode("openai", with_message(tool_calls=calls))["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


def test_answer_of_completions_is_completed_as_one() -> None:
    body = b'{"choices":[{"text":"A","finish_reason":"stop"}]}'
    result = json.loads(read_answer(body, (), model="m").body)
    assert (result["object"], result["model"], result["choices"][0]["index"]) == ("text_completion", "m", 0)
    whole = b'{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"A","finish_reason":"stop"}]}'
    assert read_answer(whole, ()).body is whole


@pytest.mark.parametrize("calls", ["f", 5, ["f"], True])
def test_calls_that_are_no_objects_are_no_answer(calls: Any) -> None:
    with pytest.raises(ValueError, match="tool_calls"):
        decode("openai", with_message(tool_calls=calls))


COUNTS = st.sampled_from([None, -1, 0, 1, 3, 4, 7, 2**40, 1.5, True, "3"])
DETAILS = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens", "x"]), COUNTS)
USAGES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "prompt_cache_hit_tokens"), COUNTS),
        **dict.fromkeys(("prompt_tokens_details", "completion_tokens_details"), DETAILS),
        "cost": st.sampled_from([None, 0, 0.5]),
    },
)


@given(USAGES)
def test_usage_is_read_alike_with_and_without_repairs(usage: dict[str, Any]) -> None:
    body = json.dumps({**TEXT, "usage": usage}).encode()
    quick, thorough = read_answer(body, ()), read_answer(body, (lambda _: False,))
    assert quick.usage == thorough.usage
    assert json.loads(quick.body) == json.loads(thorough.body)


@each("reason", [None, "", "null"])
@each(("message", "shown"), [
    ({"content": "A"}, "stop"), ({"content": None, "tool_calls": [CALL]}, "tool_calls"),
    ({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
])  # fmt: skip
def test_a_whole_answer_has_a_finish_reason(reason: str | None, message: dict[str, Any], shown: str) -> None:
    assert decode("vllm", {**answer(message, "stop"), "choices": [
        {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    ]}, sent_functions=True)["choices"][0]["finish_reason"] == shown  # fmt: skip


@each(("call", "shown"), [({}, None), ({"name": "f"}, "{}"), ({"name": "f", "arguments": {"a": 1}}, '{"a": 1}')])
def test_a_function_call_has_arguments_as_text(call: dict[str, Any], shown: str | None) -> None:
    given = answer({"content": "A", "function_call": call}, "stop")
    message = decode("ollama", given, sent_functions=True)["choices"][0]["message"]
    assert (message.get("function_call") or {}).get("arguments") == shown
    calls = decode("ollama", given)["choices"][0]["message"].get("tool_calls") or [{"function": {}}]
    assert calls[0]["function"].get("arguments") == shown, "a caller that sent no functions gets a tool call"


def test_a_call_in_both_forms_is_one_tool_call() -> None:
    both = answer({"content": None, "tool_calls": [CALL], "function_call": CALL["function"]}, "function_call")
    assert decode("vllm", both)["choices"] == CALLS["choices"]


@each(("given", "shown"), [
    (["a", "b"], "ab"), ([{"type": "text", "text": "a"}], "a"), ([{"type": "thinking", "thinking": "a"}], "a"), ({"text": "a"}, "a"),
])  # fmt: skip
@each("content", ["A", [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "A"}]])
def test_reasoning_is_text(given: Any, shown: str, content: Any) -> None:
    message = decode("vllm", answer({"content": content, "reasoning_content": given}, "stop"))["choices"][0]["message"]
    assert message["content"] == "A"
    assert message["reasoning_content"] == (shown if content == "A" else f"{shown}t")


def test_an_empty_usage_is_left_out() -> None:
    assert "usage" not in decode("vllm", {**TEXT, "usage": {}})


def test_counts_that_are_no_integers_become_integers() -> None:
    usage = decode("vllm", {**TEXT, "usage": {"prompt_tokens": 1.0, "completion_tokens": "2", "total_tokens": 3.0}})["usage"]
    assert [type(usage[name]) for name in ("prompt_tokens", "completion_tokens", "total_tokens")] == [int, int, int]


def test_a_whole_completion_has_a_finish_reason() -> None:
    target = target_for("vllm")
    choices = [{"text": "a", "index": 0, "finish_reason": None}, {"text": "b", "index": 1}, {"text": None, "finish_reason": "length"}]
    body = json.dumps({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": choices}).encode()
    given = json.loads(target.kind.decode(body, target, Options(operation="completions")).body)["choices"]
    assert [(choice["text"], choice["finish_reason"]) for choice in given] == [("a", "stop"), ("b", "stop"), ("", "length")]
