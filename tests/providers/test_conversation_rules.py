"""A conversation that a vendor would refuse as a whole is repaired, or refused before anything is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Refusal
from providers.message_tables import ROWS
from providers.rules import conversation
from providers.rules.schema_unions import merged_schema
from tests.providers.adapting import Adapted, adapt
from tests.providers.strict_messages import message_objections
from tests.support.each import each
from tests.support.search import examples

USER = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
MODEL = "claude-sonnet-4-5"
TOOL_KINDS = [kind for kind in ROWS if kind not in ("goodfire", "openai-compatible", "local")]


def calls(*ids: str, content: Any = None) -> dict[str, Any]:
    """Return an assistant message with calls."""
    listed = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": content, "tool_calls": listed}


def result(id: str, text: str = "21") -> dict[str, Any]:
    """Return a tool message."""
    return {"role": "tool", "tool_call_id": id, "content": text}


def claude(*messages: dict[str, Any], strict: bool = False, **more: Any) -> Adapted:
    """Adapt a conversation for Anthropic, and check that its server accepts it."""
    adapted = adapt("anthropic", {"messages": list(messages), **more}, model=MODEL, strict=strict)
    assert message_objections("anthropic", adapted.sent) == []
    return adapted


@each("text", ["", " ", "\n", [{"type": "text", "text": ""}], [{"type": "text", "text": "\t"}]])
@each("strict", [False, True])
def test_blank_messages_in_the_middle_are_left_out_and_reported(text: Any, strict: bool) -> None:
    blank = [{"role": "user", "content": text}, {"role": "assistant", "content": text}, {"role": "system", "content": text}]
    adapted = claude(USER, *blank, USER, strict=strict)
    assert adapted.sent["messages"] == [USER, USER]
    assert {("messages[1]", "drop"), ("messages[2]", "drop"), ("messages[3]", "drop")} <= set(adapted.actions())


def test_a_blank_part_is_left_out() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": ""}]
    adapted = claude({"role": "user", "content": parts}, strict=True)
    assert adapted.sent["messages"][0]["content"] == parts[:1]
    assert ("messages[0].content", "drop") in adapted.actions()


@each("kind", ["anthropic", "xai", "gemini"])
@each("text", ["", "  ", [{"type": "text", "text": ""}]])
def test_a_blank_last_user_message_is_refused(kind: str, text: Any) -> None:
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"messages": [USER, {"role": "assistant", "content": "A"}, {"role": "user", "content": text}]})
    assert refused.value.param == "messages[2].content"


@pytest.mark.parametrize("content", ["\n", "", [{"type": "text", "text": " "}]])
def test_blank_text_beside_tool_calls_is_left_out(content: Any) -> None:
    adapted = claude(USER, calls("c1", content=content), result("c1"), strict=True)
    assert [block["type"] for block in adapted.sent["messages"][1]["content"]] == ["tool_use"]


@pytest.mark.parametrize("content", ["The answer is ", [{"type": "text", "text": "The answer is \n"}]])
def test_the_text_to_continue_has_no_trailing_white_space(content: Any) -> None:
    adapted = claude(USER, {"role": "assistant", "content": content}, strict=True)
    assert "The answer is" in str(adapted.sent["messages"][-1])
    assert ("messages[1].content", "reshape") in adapted.actions()


@pytest.mark.parametrize("kind", ["anthropic", "gemini", "mistral"])
def test_a_conversation_of_system_messages_gets_a_turn(kind: str) -> None:
    adapted = adapt(kind, {"messages": [SYSTEM, {"role": "developer", "content": "Say hi."}]}, model=MODEL)
    assert message_objections(kind, adapted.sent) == []
    assert adapted.sent["messages"][-1] == {"role": "user", "content": "Say hi."}
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"messages": [SYSTEM]}, strict=True)
    assert refused.value.param == "messages[0].role"


@each("ids", [("functions.f:0", "call.1"), ("call.1", "call_1"), ("x" * 65, "x" * 66), ("", "é"), ("c", "c")])
@each("kind", TOOL_KINDS)
def test_ids_are_made_valid_alike_in_calls_and_results(kind: str, ids: tuple[str, str]) -> None:
    turns = [USER, calls(ids[0]), result(ids[0], "1"), calls(ids[1]), result(ids[1], "2"), USER]
    adapted = adapt(kind, {"messages": turns}, model=MODEL if kind == "anthropic" else "example", strict=kind != "mistral")
    assert message_objections(kind, adapted.sent) == []
    text = str(adapted.sent["messages"])
    assert text.index("'1'") < text.index("'2'")


@pytest.mark.parametrize("kind", ["anthropic", "mistral"])
def test_two_calls_of_one_message_with_the_same_id_become_different(kind: str) -> None:
    turns = [USER, calls("c", "c"), result("c", "1"), {"role": "user", "content": "wait"}, result("c", "2"), USER]
    adapted = adapt(kind, {"messages": turns}, model=MODEL if kind == "anthropic" else "example", strict=kind != "mistral")
    assert message_objections(kind, adapted.sent) == []
    with pytest.raises(Refusal):
        adapt(kind, {"messages": [USER, calls("c", "c"), result("c")]})


def test_ids_that_are_valid_stay() -> None:
    turns = [USER, calls("toolu_1", "toolu_2"), result("toolu_1"), result("toolu_2")]
    adapted = claude(*turns, strict=True)
    assert [block["id"] for block in adapted.sent["messages"][1]["content"]] == ["toolu_1", "toolu_2"]


IDS = st.lists(st.text(alphabet="aB1_-.:/ é", max_size=70), min_size=1, max_size=6)


@settings(max_examples=examples(60))
@given(ids=IDS, kind=st.sampled_from(["anthropic", "openai", "mistral"]))
def test_any_ids_become_valid_and_keep_their_results(ids: list[str], kind: str) -> None:
    turns: list[dict[str, Any]] = [USER]
    for number, id in enumerate(ids):
        turns += [calls(id), result(id, f"result {number}")]
    adapted = adapt(kind, {"messages": turns}, model=MODEL if kind == "anthropic" else "example", strict=True)
    assert message_objections(kind, adapted.sent) == []
    if kind == "anthropic":
        blocks = [block for message in adapted.sent["messages"][1:] for block in message["content"]]
        names = [block["id"] for block in blocks if block["type"] == "tool_use"]
        answers = {block["tool_use_id"]: block["content"] for block in blocks if block["type"] == "tool_result"}
        assert [answers[name] for name in names] == [f"result {number}" for number in range(len(ids))]


@each("media", ["image/jpg", "image/png;charset=utf-8", "IMAGE/WEBP", "image/gif"])
def test_images_have_media_types_that_are_accepted(media: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:{media};base64,AA=="}}
    claude({"role": "user", "content": [image]}, strict=True)


@each("media", ["image/bmp", "image/svg+xml", "video/mp4", "application/zip"])
@each("kind", ["image_url", "file"])
def test_other_media_types_are_refused_with_their_path(media: str, kind: str) -> None:
    address = f"data:{media};base64,AA=="
    part = {"type": kind, kind: {"url": address, "file_data": address}}
    with pytest.raises(Refusal) as refused:
        claude({"role": "user", "content": [{"type": "text", "text": "A"}, part]})
    assert refused.value.param == "messages[0].content[1]"


def test_a_text_file_becomes_a_text_source_with_its_title() -> None:
    part = {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,QcOp"}}
    block = claude({"role": "user", "content": [part]}, strict=True).sent["messages"][0]["content"][0]
    assert block == {"type": "document", "title": "a.txt", "source": {"type": "text", "media_type": "text/plain", "data": "Aé"}}


def test_image_detail_is_reported_and_refused_in_strict_mode() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "high"}}
    assert ("messages[0].content[0].image_url.detail", "drop") in claude({"role": "user", "content": [image]}).actions()
    with pytest.raises(Refusal):
        claude({"role": "user", "content": [image]}, strict=True)
    image["image_url"] = {"url": "https://example.org/a.png", "detail": "auto"}
    claude({"role": "user", "content": [image]}, strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_blank_stop_strings_are_watched_for_here(strict: bool) -> None:
    adapted = claude(USER, stop=["\n\n", "END", ""], strict=strict)
    assert adapted.sent["stop_sequences"] == ["END"]
    assert ("stop", "enforce_locally") in adapted.actions()
    assert "stop_sequences" not in claude(USER, stop="\n").sent


def test_cache_control_of_a_tool_message_is_on_its_result() -> None:
    mark = {"type": "ephemeral"}
    adapted = claude(USER, calls("c1"), {**result("c1"), "cache_control": mark}, strict=True)
    assert adapted.sent["messages"][2]["content"][0]["cache_control"] == mark


def test_function_call_beside_text_becomes_tool_use() -> None:
    answer = {"role": "assistant", "content": "A", "function_call": {"name": "f", "arguments": "{}"}}
    adapted = claude(USER, answer, {"role": "function", "name": "f", "content": "21"}, strict=True)
    assert [block["type"] for block in adapted.sent["messages"][1]["content"]] == ["text", "tool_use"]
    assert adapted.sent["messages"][2]["content"][0]["content"] == "21"


@each("kind", TOOL_KINDS)
def test_results_follow_their_calls_before_other_messages(kind: str) -> None:
    turns = [USER, calls("c1", "c2"), result("c1", "1"), {"role": "user", "content": "wait"}, result("c2", "2"), USER]
    adapted = adapt(kind, {"messages": turns}, model=MODEL if kind == "anthropic" else "example", strict=kind not in ("mistral", "siati"))
    assert message_objections(kind, adapted.sent) == []
    text = str(adapted.sent["messages"])
    assert text.index("'2'") < text.index("wait")
    assert "messages[4]" in {item.param for item in adapted.adjustments}


@each("kind", [kind for kind in TOOL_KINDS if ROWS[kind].needs_results])
@each("after", [[], [USER], [{"role": "assistant", "content": "A"}, USER]])
def test_a_call_without_a_result_is_refused_with_its_path(kind: str, after: list[dict[str, Any]]) -> None:
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"messages": [USER, calls("c1", "c2"), result("c1"), *after]})
    assert refused.value.param == "messages[1].tool_calls[1]"


def test_mistral_gets_an_answer_between_results_and_a_user() -> None:
    request = {"messages": [USER, calls("c1"), result("c1"), USER]}
    adapted = adapt("mistral", request)
    with pytest.raises(Refusal, match="must follow tool results"):
        adapt("mistral", request, strict=True)
    assert adapted.sent["messages"][-2] == {"role": "assistant", "content": conversation.ACKNOWLEDGEMENT}
    assert ("messages[3]", "reshape") in adapted.actions()


def test_mistral_gets_no_empty_answers_and_a_marked_beginning() -> None:
    turns = [USER, {"role": "assistant", "content": ""}, USER, {"role": "assistant", "content": "A"}]
    adapted = adapt("mistral", {"messages": turns}, strict=True)
    assert adapted.sent["messages"] == [USER, USER, {"role": "assistant", "content": "A", "prefix": True}]


def tool(schema: Any, name: str = "f") -> dict[str, Any]:
    """Return a tool."""
    return {"type": "function", "function": {"name": name, "parameters": schema}}


A = {"type": "object", "properties": {"a": {"type": "string"}, "c": {"type": "string"}}, "required": ["a", "c"]}
B = {"type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "integer"}}, "required": ["b", "c"]}


@each("kind", ["anthropic", "openai", "azure", "groq", "mistral"])
@each("schema", [{}, {"properties": {"a": {}}}, {"description": "x"}])
def test_a_schema_without_a_type_is_an_object(kind: str, schema: dict[str, Any]) -> None:
    adapted = adapt(kind, {"tools": [tool(schema)]}, strict=True)
    sent = adapted.sent["tools"][0]
    assert sent.get("input_schema", sent.get("function", {}).get("parameters"))["type"] == "object"
    assert message_objections(kind, adapted.sent) == []


@each("kind", ["anthropic", "openai", "azure"])
@each("union", ["anyOf", "oneOf", "allOf"])
def test_a_union_at_the_top_becomes_one_object(kind: str, union: str) -> None:
    request = {"tools": [tool({union: [A, {"$ref": "#/$defs/B"}], "$defs": {"B": B}})]}
    adapted = adapt(kind, request)
    assert message_objections(kind, adapted.sent) == []
    sent = adapted.sent["tools"][0]
    schema = sent.get("input_schema") or sent["function"]["parameters"]
    assert schema["properties"] == {
        "a": {"type": "string"}, "b": {"type": "string"}, "c": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    }  # fmt: skip
    assert sorted(schema["required"]) == (["a", "b", "c"] if union == "allOf" else ["c"])
    with pytest.raises(Refusal) as refused:
        adapt(kind, request, strict=True)
    assert refused.value.param == "tools[0].function.parameters"


def test_alternatives_require_what_all_of_them_require() -> None:
    assert merged_schema({"anyOf": [A, B], "description": "x"}) == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "c": {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "b": {"type": "string"}},
        "required": ["c"],
        "description": "x",
    }


NO_OBJECTS: list[Any] = [{"anyOf": [A, {"type": "string"}]}, {"type": "string"}, {"enum": [1]}, {"oneOf": [{"$ref": "#/nowhere"}]}]


@each("schema", NO_OBJECTS)
def test_a_schema_that_cannot_be_an_object_is_refused_with_its_tool(schema: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        adapt("anthropic", {"tools": [tool(A), tool(schema)]})
    assert refused.value.param == "tools[1].function.parameters"


@each("name", ["a.b/c", "", "x" * 129, "a b"])
@each("kind", ["anthropic", "azure", "deepseek", "gemini", "mistral", "openai"])
def test_names_that_are_refused_are_refused_with_their_tool(kind: str, name: str) -> None:
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"tools": [tool(A, name)]})
    assert refused.value.param == "tools[0].function.name"


@each(("kind", "name"), [("gemini", "a.b"), ("gemini", "a:b"), ("openrouter", "a.b"), ("vllm", "a b")])
def test_names_that_a_vendor_accepts_are_sent(kind: str, name: str) -> None:
    assert adapt(kind, {"tools": [tool(A, name)]}, strict=True).sent["tools"] == [tool(A, name)]


@each(("kind", "name"), [("groq", "a.b"), ("gemini", "1a"), ("gemini", "a/b")])
def test_names_outside_the_pattern_of_their_vendor_are_refused(kind: str, name: str) -> None:
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"tools": [tool(A), tool(A, name)]})
    assert refused.value.param == "tools[1].function.name"


CONTENT_KINDS = [kind for kind, row in ROWS.items() if not row.null_answers and row.blanks == "accepted"]


@each("kind", CONTENT_KINDS)
@each("answer", [{"content": None}, {"content": None, "tool_calls": []}, {"content": [], "refusal": None}, {}])
def test_an_answer_without_content_gets_an_empty_text(kind: str, answer: dict[str, Any]) -> None:
    adapted = adapt(kind, {"messages": [USER, {"role": "assistant", **answer}, USER]}, strict=True)
    assert [message.get("content") for message in adapted.sent["messages"]] == ["Hi", "", "Hi"]
    assert ("messages[1].content", "reshape") in adapted.actions()
    assert message_objections(kind, adapted.sent) == []


@each("kind", [*CONTENT_KINDS, "openai-compatible", "vllm", "openrouter"])
def test_an_empty_list_of_calls_is_left_out_with_all_its_changes_reported(kind: str) -> None:
    adapted = adapt(kind, {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}, USER]}, strict=True)
    assert adapted.sent["messages"] == [USER, {"role": "assistant", "content": ""}, USER]
    assert {("messages[1].tool_calls", "drop"), ("messages[1].content", "reshape")} <= set(adapted.actions())


@each(("kind", "field"), [("deepseek", "reasoning_content"), ("cerebras", "reasoning")])
def test_an_answer_that_is_only_reasoning_gets_an_empty_text(kind: str, field: str) -> None:
    adapted = adapt(kind, {"messages": [USER, {"role": "assistant", "content": None, "reasoning_content": "t"}, USER]}, strict=True)
    assert adapted.sent["messages"][1] == {"role": "assistant", "content": "", field: "t"}


@each("answer", [
    {"refusal": "No."}, {"audio": {"id": "a"}}, {"function_call": {"name": "f", "arguments": "{}"}},
])  # fmt: skip
def test_an_answer_with_something_in_place_of_content_is_kept(answer: dict[str, Any]) -> None:
    turn = {"role": "assistant", "content": None, **answer}
    assert adapt("openai", {"messages": [USER, turn, USER]}, strict=True).sent["messages"] == [USER, turn, USER]


def test_strict_of_a_function_is_reported_where_it_is_unknown() -> None:
    marked = {"type": "function", "function": {"name": "f", "parameters": A, "strict": True}}
    assert ("tools[0].function.strict", "drop") in adapt("friendli", {"tools": [marked]}).actions()
    assert re.search("strict", str(adapt("openai", {"tools": [marked]}).sent))


@each("late", [SYSTEM, {"role": "developer", "content": "Be brief."}])
@each("after", [[{"role": "assistant", "content": "A"}], [calls("c1"), result("c1")]])
def test_mistral_gets_no_system_message_after_an_answer(late: dict[str, Any], after: list[dict[str, Any]]) -> None:
    request = {"messages": [SYSTEM, USER, *after, late, USER]}
    adapted = adapt("mistral", request)
    sent = [message["role"] for message in adapted.sent["messages"]]
    assert sent[-3:] == ["assistant", "user", "user"]
    assert adapted.sent["messages"][-2] == {**USER, "content": "Be brief."}
    assert (f"messages[{2 + len(after)}].role", "downgrade") in adapted.actions()
    with pytest.raises(Refusal):
        adapt("mistral", request, strict=True)


def test_mistral_gets_system_messages_before_an_answer() -> None:
    turns = [SYSTEM, USER, SYSTEM, USER]
    assert adapt("mistral", {"messages": turns}, strict=True).sent["messages"] == turns
