"""gateway.emulate.tool_calls: tool calls in the caller's form, in JSON answers and streams, and checked arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from gateway.emulate.adapt import AdaptedBody, adapt_body
from gateway.emulate.tool_calls import ToolCalls, ToolCallStream
from providers.base import Adjustment, Answer, Body
from tests.providers.adapting import HI, target_for

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "minLength": 2}}, "required": ["city"]}
FUNCTION = {"name": "weather", "parameters": SCHEMA}
LEGACY = {"functions": [FUNCTION]}
STRICT = {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]}
CUSTOM = {"tools": [{"type": "custom", "custom": {"name": "patch"}}, {"type": "function", "function": FUNCTION}]}


def adapted(request: dict[str, Any], kind: str = "gemini") -> AdaptedBody:
    """Return the request for a vendor."""
    body = Body(json.dumps({"model": "m", "messages": HI, **request}).encode())
    return adapt_body(body, target_for(kind), "chat", strict=False)


def calls_of(request: dict[str, Any], kind: str = "gemini") -> ToolCalls:
    """Return the converted calls of the answer."""
    calls = adapted(request, kind).tool_calls
    assert calls is not None
    return calls


def call(name: str, arguments: str, id: str = "c1") -> dict[str, Any]:
    """Return a call of an answer."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def finished(calls: ToolCalls, *made: dict[str, Any], finish: str = "tool_calls") -> tuple[dict[str, Any], Answer, list[Adjustment]]:
    """Return the choice that the caller gets, the answer and the notes on it."""
    message = {"role": "assistant", "content": None, "tool_calls": list(made)}
    body = {"id": "a", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    answer = Answer(json.dumps(body).encode(), None, (finish,))
    notes = calls.finish(answer)
    return json.loads(answer.body)["choices"][0], answer, notes


def streamed(calls: ToolCalls, *deltas: dict[str, Any], finish: str = "tool_calls") -> tuple[list[dict[str, Any]], list[Adjustment]]:
    """Return the choices of the chunks that the caller gets, and the notes on the stream."""
    stream = ToolCallStream(None, calls)
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    out = [piece for chunk in chunks for piece in stream.feed("", json.dumps({"id": "a", "choices": [chunk]}).encode())]
    out += [piece for piece in stream.feed("", b"[DONE]") if piece != b"[DONE]"]
    return [choice for piece in out for choice in json.loads(piece)["choices"]], stream.notes()


def deltas_of(*made: dict[str, Any], size: int = 3) -> list[dict[str, Any]]:
    """Return the deltas of some calls: each opens with its name, and its arguments follow in pieces."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "Hm."}]
    for index, each in enumerate(made):
        text = each["function"]["arguments"]
        deltas.append({"tool_calls": [{**each, "index": index, "function": {"name": each["function"]["name"], "arguments": ""}}]})
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    return deltas


@pytest.mark.parametrize("request_", [{}, {"tools": [{"type": "function", "function": FUNCTION}]}, {"functions": []}])
def test_ordinary_requests_need_nothing(request_: dict[str, Any]) -> None:
    assert adapted(request_).tool_calls is None
    assert adapted({**STRICT}, "xai").tool_calls is None
    assert adapted({**CUSTOM}, "openai").tool_calls is None
    assert adapted({**LEGACY}, "openai").tool_calls is None


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_a_caller_of_functions_gets_a_function_call(finish: str) -> None:
    choice, answer, notes = finished(calls_of(LEGACY), call("weather", '{"city": "Bern"}'), finish=finish)
    assert choice["message"] == {
        "role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Bern"}'},
    }  # fmt: skip
    assert (choice["finish_reason"], answer.finish_reasons, notes) == ("function_call", ("function_call",), [])


def test_a_caller_of_functions_gets_function_call_deltas() -> None:
    choices, notes = streamed(calls_of(LEGACY), *deltas_of(call("weather", '{"city": "Bern"}')))
    pieces = [choice["delta"]["function_call"] for choice in choices if "function_call" in choice["delta"]]
    assert pieces[0]["name"] == "weather"
    assert "".join(piece["arguments"] for piece in pieces) == '{"city": "Bern"}'
    assert all("tool_calls" not in choice["delta"] for choice in choices)
    assert choices[0]["delta"] == {"role": "assistant", "content": "Hm."}
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["function_call"]
    assert notes == []


def test_the_openai_package_assembles_a_function_call() -> None:
    state = ChatCompletionStreamState()
    choices, _ = streamed(calls_of(LEGACY), *deltas_of(call("weather", '{"city": "Bern"}')))
    for choice in choices:
        frame = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        list(state.handle_chunk(ChatCompletionChunk.model_validate(frame)))
    (whole,) = state.get_final_completion().choices
    assert whole.finish_reason == "function_call"
    assert whole.message.function_call is not None
    assert whole.message.function_call.arguments == '{"city": "Bern"}'


def test_a_legacy_answer_has_the_first_of_several_calls_and_reports_it() -> None:
    made = (call("weather", '{"city": "Bern"}'), call("weather", '{"city": "Rome"}', "c2"))
    choice, _, notes = finished(calls_of(LEGACY), *made)
    assert "Bern" in choice["message"]["function_call"]["arguments"]
    choices, told = streamed(calls_of(LEGACY), *deltas_of(*made))
    assert "Rome" not in json.dumps(choices)
    for each in (notes, told):
        assert [(note.param, note.action) for note in each] == [("function_call", "warn")]


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_text_and_other_finish_reasons_stay(finish: str) -> None:
    for request in (LEGACY, STRICT, CUSTOM):
        choices, notes = streamed(calls_of(request), {"role": "assistant", "content": "A"}, {"content": "B"}, finish=finish)
        assert [choice["delta"].get("content") for choice in choices] == ["A", "B", None]
        assert (choices[-1]["finish_reason"], notes) == (finish, [])


INPUT = 'say "hi"\n\U0001f600'


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_custom_tool_is_called_with_its_input(size: int) -> None:
    made = (call("patch", json.dumps({"input": INPUT})), call("weather", '{"city": "Bern"}', "c2"))
    choice, _, notes = finished(calls_of(CUSTOM), *made)
    custom, function = choice["message"]["tool_calls"]
    assert custom == {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": INPUT}}
    assert (function, notes) == (made[1], [])
    choices, _ = streamed(calls_of(CUSTOM), *deltas_of(*made, size=size))
    pieces = [piece for choice in choices for piece in choice["delta"].get("tool_calls", ())]
    opening = next(piece for piece in pieces if piece["index"] == 0)
    assert (opening["id"], opening["type"], opening["custom"]["name"]) == ("c1", "custom", "patch")
    assert "".join(piece["custom"]["input"] for piece in pieces if piece["index"] == 0) == INPUT
    arguments = "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == 1)
    assert (arguments, choices[-1]["finish_reason"]) == ('{"city": "Bern"}', "tool_calls")


def test_arguments_of_another_form_are_the_input() -> None:
    choice, _, _ = finished(calls_of(CUSTOM), call("patch", '{"text": "x"}'))
    assert choice["message"]["tool_calls"][0]["custom"]["input"] == '{"text": "x"}'
    choices, _ = streamed(calls_of(CUSTOM), *deltas_of(call("patch", '{"text": "x"}')))
    pieces = [piece for choice in choices for piece in choice["delta"].get("tool_calls", ())]
    assert "".join(piece["custom"]["input"] for piece in pieces) == '{"text": "x"}'


@pytest.mark.parametrize(
    ("arguments", "finish", "problem"),
    [
        ('{"city": "B"}', "tool_calls", "$.city"),
        ("{}", "tool_calls", "city"),
        ("", "tool_calls", "city"),
        ('{"city": "Bern"', "tool_calls", "not JSON"),
        ('{"city": "Be', "length", "cut off"),
    ],
)
def test_invalid_arguments_are_reported(arguments: str, finish: str, problem: str) -> None:
    made = call("weather", arguments)
    _, answer, notes = finished(calls_of(STRICT), made, finish=finish)
    assert json.loads(answer.body)["choices"][0]["message"]["tool_calls"] == [made]
    _, told = streamed(calls_of(STRICT), *deltas_of(made), finish=finish)
    for each in (notes, told):
        assert [(note.param, note.action) for note in each] == [("tools", "warn")]
        assert problem in each[0].why


def test_arguments_for_an_invalid_schema_are_not_checked_and_that_is_reported() -> None:
    broken = {"tools": [{"type": "function", "function": {**FUNCTION, "parameters": {"type": "no type"}, "strict": True}}]}
    made = call("weather", "{}")
    _, _, notes = finished(calls_of(broken), made)
    _, told = streamed(calls_of(broken), *deltas_of(made))
    for each in (notes, told):
        assert len(each) == 1
        assert "are not checked, because its schema is not valid: " in (each[0].why or "")


def test_valid_arguments_and_other_functions_are_not_reported() -> None:
    made = (call("weather", '{"city": "Bern"}'), call("other", "nonsense", "c2"))
    assert finished(calls_of(STRICT), *made)[2] == []
    assert streamed(calls_of(STRICT), *deltas_of(*made))[1] == []


def test_arguments_of_strict_legacy_functions_are_checked() -> None:
    request = {"functions": [{**FUNCTION, "strict": True}]}
    _, _, notes = finished(calls_of(request), call("weather", "{}"))
    assert [note.param for note in notes] == ["tools"]


def test_a_schema_that_is_not_valid_is_reported() -> None:
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "nonsense"}}}
    _, _, notes = finished(calls_of({"tools": [tool]}, "llamacpp"), call("f", "{}"))
    assert [note.action for note in notes] == ["warn"]


def test_chunks_that_need_no_change_keep_their_bytes() -> None:
    stream = ToolCallStream(None, calls_of(CUSTOM))
    for chunk in (b'{"choices": [{"index":0,"delta":{"content":"a"}}]}', b'{"choices":[],"usage":{}}', b'{"error":{"message":"x"}}'):
        assert list(stream.feed("", chunk)) == [chunk]


ARGUMENTS = ['{"city": "Bern"}', "{}", "", '{"input": "a\\"b"}', '{"input":"\\ud83d\\ude00 x"}', "plain", '{"input": 5}', '{"city":"B"}']
MADE = st.lists(st.tuples(st.sampled_from(["weather", "patch", "other"]), st.sampled_from(ARGUMENTS)), min_size=1, max_size=3)


def assembled(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the calls of a stream as they appear in a message."""
    whole: dict[str, Any] = {}
    for choice in choices:
        piece = choice["delta"].get("function_call")
        if piece:
            whole.setdefault("function_call", {"name": piece.get("name"), "arguments": ""})["arguments"] += piece.get("arguments", "")
        for piece in choice["delta"].get("tool_calls", ()):
            kind, text = ("custom", "input") if "custom" in piece else ("function", "arguments")
            calls = whole.setdefault("tool_calls", [])
            if piece["index"] == len(calls):
                calls.append({"id": piece["id"], "type": piece["type"], kind: {"name": piece[kind]["name"], text: ""}})
            calls[piece["index"]][kind][text] += piece[kind].get(text, "")
    return whole


@given(
    request_=st.sampled_from([LEGACY, STRICT, CUSTOM]),
    made=MADE,
    size=st.integers(1, 9),
    finish=st.sampled_from(["tool_calls", "stop", "length"]),
)
def test_json_and_stream_say_the_same(request_: dict[str, Any], made: list[tuple[str, str]], size: int, finish: str) -> None:
    calls = calls_of(request_)
    listed = [call(name, arguments, f"c{number}") for number, (name, arguments) in enumerate(made)]
    choice, _, notes = finished(calls, *listed, finish=finish)
    choices, told = streamed(calls, *deltas_of(*listed, size=size), finish=finish)
    message = choice["message"]
    assert assembled(choices) == {name: message[name] for name in ("function_call", "tool_calls") if message.get(name)}
    assert choices[-1]["finish_reason"] == choice["finish_reason"]
    assert {note.why for note in notes} == {note.why for note in told}
