"""The usual request is translated in one step, with the same result as field by field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.dialects.cohere_api.dialect import CohereChatTranslator
from gateway.dialects.dialect import Dialect, Translator
from gateway.dialects.messages import MAX_MESSAGES
from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.messages_api.request import PLAIN
from gateway.dialects.plain_request import translate_plain
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.table import COHERE_CHAT, MESSAGES, RESPONSES
from gateway.http.json_body import parse_body
from providers.base import Body
from tests.support.search import examples

TURNS = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": 'A "test" é.'}, {"role": "user", "content": "Why?"}]


class Api(NamedTuple):
    """An API: a usual request, and more fields, some of which are not usual or not valid."""

    dialect: Dialect
    new: Callable[[], Translator]
    usual: dict[str, Any]
    more: dict[str, tuple[Any, ...]]


VALUES: dict[str, tuple[Any, ...]] = {
    "temperature": (0.5, 1, None, "hot"),
    "top_p": (0.9, 0, None),
    "stream": (True, False, None),
    "model": ("m", "", 3, None),
    "unknown": (1, None),
    "n": (1, 2, None),
    "stop": (["x"], None),
    "": ("x",),
}
STOPS: tuple[Any, ...] = (["a", "b"], ["a", 3], [], [3], None, "a", "")
TEXT = {"type": "text", "text": "x é"}
MARKED = {"text": "x", "type": "text", "cache_control": {"type": "ephemeral"}}
SYSTEMS: tuple[Any, ...] = ("Be brief.", "", None, 3, [TEXT], [TEXT, MARKED], [], [{"type": "image"}])
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
DEEP: Any = {}
for _ in range(450):
    DEEP = {"a": [DEEP]}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA}
FORMAT = {"type": "json_schema", "schema": SCHEMA}
NAMED = {"type": "tool", "name": "f"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
APIS = {
    "messages": Api(
        MESSAGES,
        MessagesTranslator,
        {"model": "m", "max_tokens": 9, "system": "Be brief.", "messages": TURNS, "stop_sequences": ["x"], "top_k": 3},
        {
            **VALUES,
            "system": SYSTEMS,
            "max_tokens": (1, 0, -1, None, "1"),
            "stop_sequences": STOPS,
            "thinking": ({"type": "enabled", "budget_tokens": 1024}, None, "on"),
            "metadata": ({"user_id": "u"}, {}, {"user_id": None}, {"user_id": "u", "other": "x"}, "u"),
            "tools": (
                [TOOL, {**TOOL, "strict": True, "cache_control": {"type": "ephemeral"}}],
                [],
                [{**TOOL, "type": "custom"}],
                [{**TOOL, "defer_loading": True}],
                [{"type": "bash_20250124", "name": "bash"}],
                [{"name": "f"}],
                [{**TOOL, "input_schema": DEEP}],
                None,
            ),
            "tool_choice": ({"type": "auto"}, {**NAMED, "disable_parallel_tool_use": True}, {"type": "x"}, "auto", None),
            "output_config": ({"effort": "low"}, {"format": FORMAT}, {"effort": 3}, {"x": 1}),
            "service_tier": ("auto", 3),
        },
    ),
    "responses": Api(
        RESPONSES,
        ResponsesTranslator,
        {"model": "m", "instructions": "Be brief.", "input": TURNS, "max_output_tokens": 9, "store": False, "user": "u"},
        {
            **VALUES,
            "instructions": SYSTEMS,
            "input": ("Hi", "", 3, None, [{"type": "message", "role": "user", "content": "Hi"}]),
            "max_output_tokens": (1, 0, None),
            "store": (True, False, None, 0),
            "previous_response_id": (None,),
            "max_tokens": (1,),
        },
    ),
    "cohere": Api(
        COHERE_CHAT,
        CohereChatTranslator,
        {"model": "m", "messages": TURNS, "max_tokens": 9, "p": 0.5, "stop_sequences": ["x"], "safety_mode": "NONE"},
        {
            **VALUES,
            "p": (0.5, "x", None),
            "k": (3, None),
            "max_tokens": (1, "1"),
            "stop_sequences": STOPS,
            "thinking": ({"type": "disabled"},),
            "documents": (["a"], 3),
            "tools": ([FUNCTION], [], None),
            "strict_tools": (True, False),
            "tool_choice": ("REQUIRED", "NONE", "auto", {"type": "function", "function": {"name": "f"}}, None),
        },
    ),
}
ROLES = ("user", "assistant", "system", "developer", "tool", 1)
LISTS = ([], [TEXT], [TEXT, MARKED], [MARKED], [{"type": "text"}], [{**TEXT, "citations": []}])
CONTENTS: tuple[Any, ...] = (*LISTS, "", "text", 'é "\\ud83d\\ude00"', None, 3)
MESSAGES_ = st.lists(
    st.builds(
        lambda role, content, more: {"role": role, "content": content, **more},
        st.sampled_from(ROLES[:3]) | st.sampled_from(ROLES),
        st.text(max_size=9) | st.sampled_from([[TEXT], [TEXT, TEXT]]) | st.sampled_from(CONTENTS),
        st.sampled_from(({}, {}, {"tool_plan": "p"}, {"type": "message"}, {"name": "n"})),
    ),
    max_size=4,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return the name of an API and a request, which is usual in about half of the cases."""
    name = draw(st.sampled_from(sorted(APIS)))
    api = APIS[name]
    chosen = draw(st.lists(st.sampled_from(sorted(api.more)), max_size=2))
    body = {**api.usual, **{field: draw(st.sampled_from(api.more[field])) for field in chosen}}
    if draw(st.booleans()):
        body["input" if name == "responses" else "messages"] = draw(MESSAGES_)
    fields = draw(st.permutations(list(body.items())))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
    return name, json.dumps(dict(fields), separators=separators, ensure_ascii=draw(st.booleans())).encode()


def names_of(translator: Translator) -> list[str]:
    """Return the caller's names for parameters of a conversation."""
    places = [f"messages[{index}]{rest}" for index in range(5) for rest in ("", ".content", ".content[0]", ".role", ".reasoning")]
    return [translator.param(name) for name in (*places, "stop", "max_completion_tokens", "top_p", "tools[0].function.name")]


@settings(max_examples=examples(400))
@given(requests())
@example(("messages", json.dumps(APIS["messages"].usual).encode()))
def test_a_usual_request_is_translated_as_field_by_field(request_: tuple[str, bytes]) -> None:
    name, source = request_
    api = APIS[name]
    translator = api.new()
    native = api.dialect.native
    assert native is not None
    assert native.translate_plain is not None
    given_ = parse_body(source)
    plain = native.translate_plain(translator, given_)
    if plain is None:
        return
    assert given_.encode() == source
    other = api.new()
    chat = parse_body(other.request(source, strict=True))
    if name != "cohere":  # the other translation of its requests decodes the texts
        assert len(plain.encode()) == len(chat.encode())
    assert sorted(json.loads(plain.encode()).items()) == sorted(json.loads(chat.encode()).items())
    assert _checked(plain) == _checked(chat)
    assert (translator.adjustments, translator.refusal) == (other.adjustments, other.refusal) == ([], None)
    assert names_of(translator) == names_of(other)
    answer = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}).encode()
    assert _without_ids(translator.answer(answer)) == _without_ids(other.answer(answer))


def _checked(chat: Body) -> list[str]:
    """Return the parameters in the order of their checks, which decides on the error if several are invalid."""
    return [field for field in chat if field not in ("model", "messages")]


def _without_ids(answer: bytes) -> dict[str, Any]:
    """Return an answer without the fields that differ between two answers to the same request."""
    return {name: value for name, value in json.loads(answer).items() if name not in ("id", "created_at", "completed_at", "output")}


@pytest.mark.parametrize("name", APIS)
def test_the_usual_request_is_recognized(name: str) -> None:
    api = APIS[name]
    assert api.dialect.native is not None
    assert api.dialect.native.translate_plain is not None
    for source in (json.dumps(api.usual), json.dumps({**api.usual, "stream": True, "temperature": 0.5}, separators=(",", ":"))):
        assert api.dialect.native.translate_plain(api.new(), Body(source.encode())) is not None


def test_the_usual_request_of_an_agent_is_recognized() -> None:
    marked = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    turns = [{"role": "user", "content": [TEXT, marked]}, {"role": "assistant", "content": [TEXT]}, {"role": "user", "content": "Go on."}]
    request_ = {
        "model": "m",
        "max_tokens": 9,
        "system": [marked],
        "messages": turns,
        "tools": [TOOL, {**TOOL, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "auto"},
        "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stream": True,
    }
    plain = translate_plain(Body(json.dumps(request_).encode()), PLAIN)
    assert plain is not None
    chat = json.loads(plain.body.encode())
    assert chat["messages"][2] == {"role": "assistant", "content": TEXT["text"]}
    assert (chat["user"], chat["tool_choice"], len(chat["tools"])) == ("u", "auto", 2)


def test_too_many_messages_are_not_usual() -> None:
    turns = [{"role": "user", "content": ""}] * MAX_MESSAGES
    usual, long = ({"model": "m", "max_tokens": 9, "messages": [*turns, *turns[:more]]} for more in (0, 1))
    assert translate_plain(Body(json.dumps(usual).encode()), PLAIN) is not None
    assert translate_plain(Body(json.dumps(long).encode()), PLAIN) is None
