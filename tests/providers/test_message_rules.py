"""Fields of messages, content parts, tools and schemas, by the table of messages. `providers/message_tables.py` has the sources."""

from __future__ import annotations

from typing import Any

import pytest

import providers
from providers.base import Body, Refusal
from providers.body import MAX_PLAIN_BYTES
from providers.message_tables import ROWS, row_of
from providers.rules.message_capabilities import MESSAGE_FIELDS
from providers.rules.message_fields import MAX_LISTED, registered
from providers.rules.message_pass import MessagePass
from providers.rules.message_row import OTHER_VENDORS_FIELDS
from tests.providers.adapting import Adapted, adapt
from tests.providers.strict_messages import message_objections
from tests.support.each import each

BLOCKS = [{"type": "thinking", "thinking": "t", "signature": "s"}]
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "21"}
USER = {"role": "user", "content": "Hi"}
LEFTOVERS: dict[str, Any] = {"content": None, "refusal": None, "annotations": [], "audio": None, "function_call": None}
HISTORY = [
    USER,
    {"role": "assistant", **LEFTOVERS, "reasoning_content": "t", "thinking_blocks": BLOCKS, "tool_calls": [CALL]},
    RESULT,
]
MODELS = {"groq": "llama-3.3-70b-versatile"}


def sent(kind: str, messages: list[dict[str, Any]], **more: Any) -> Adapted:
    """Adapt a conversation."""
    return adapt(kind, {"messages": messages}, **more)


def params(result: Adapted) -> set[str]:
    """Return the parameters that the receipt names."""
    return {item.param for item in result.adjustments}


def test_every_provider_has_a_row_with_a_source() -> None:
    assert set(ROWS) == set(providers.OURS)
    assert all(row.source and row.as_of >= "2026-11" for row in ROWS.values())
    assert (row_of("a-plugin").unknown, row_of("a-plugin").developer) == ("pass", "")


@each("kind", [kind for kind in ROWS if kind not in ("goodfire", "anthropic", "openai-compatible")])
def test_history_of_another_vendor_is_accepted_and_every_loss_is_reported(kind: str) -> None:
    result = sent(kind, HISTORY, model=MODELS.get(kind, "example"), tools=True)
    assert message_objections(kind, result.sent) == []
    told = params(result)
    answer = result.sent["messages"][-2]
    for name in ("reasoning_content", "thinking_blocks", "annotations"):
        assert name in answer or f"messages[1].{name}" in told
    assert "index" in answer.get("tool_calls", [{"index": 0}])[0] or "messages[1].tool_calls[0].index" in told


@each(
    ("kind", "model", "field"),
    [
        ("groq", "llama-3.3-70b-versatile", None), ("groq", "openai/gpt-oss-120b", "reasoning"), ("cerebras", "gpt-oss-120b", "reasoning"),
        ("mistral", "mistral-large", None), ("openai", "gpt-4.1", None), ("azure", "d", None),
        ("deepseek", "deepseek-v4", "reasoning_content"),
        ("vllm", "m", "reasoning"), ("ollama", "m", "reasoning"), ("llamacpp", "m", "reasoning_content"), ("gemini", "gemini-3-pro", None),
        ("fireworks", "m", "reasoning_content"), ("friendli", "m", "reasoning_content"), ("together", "m", "reasoning_content"),
        ("xai", "grok-4.5", "reasoning_content"), ("openrouter", "m", "reasoning"), ("siati", "m", None),
    ],
)  # fmt: skip
@each("name", ["reasoning_content", "reasoning"])
def test_earlier_reasoning_goes_to_the_vendors_field(kind: str, model: str, field: str | None, name: str) -> None:
    result = sent(kind, [USER, {"role": "assistant", "content": "A", name: "t"}, USER], model=model)
    answer = result.sent["messages"][1]
    if kind in ("friendli", "together"):
        field = name  # both names are typed
    assert {key: answer[key] for key in ("reasoning_content", "reasoning") if key in answer} == ({field: "t"} if field else {})
    assert (f"messages[1].{name}" in params(result)) == (field != name)
    if field is None:
        with pytest.raises(Refusal) as refused:
            sent(kind, [USER, {"role": "assistant", "content": "A", name: "t"}, USER], model=model, strict=True)
        assert refused.value.param == f"messages[1].{name}"


def test_the_same_reasoning_under_two_names_is_sent_once_without_loss() -> None:
    messages = [USER, {"role": "assistant", "content": "A", "reasoning": "t", "reasoning_content": "t"}, USER]
    assert sent("vllm", messages, strict=True).sent["messages"][1] == {"role": "assistant", "content": "A", "reasoning": "t"}


def test_deepseek_gets_reasoning_beside_the_tool_calls_of_another_model() -> None:
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert sent("deepseek", [USER, answer, RESULT]).sent["messages"][1]["reasoning_content"] == " "
    request = {"messages": [USER, answer, RESULT], "reasoning_effort": "none"}
    assert "reasoning_content" not in adapt("deepseek", request).sent["messages"][1]


@each("kind", [kind for kind in ROWS if kind != "goodfire"])
@each("content", ["A", None])
def test_an_empty_list_of_tool_calls_is_left_out(kind: str, content: str | None) -> None:
    answer = {"role": "assistant", "content": content, "tool_calls": []}
    result = sent(kind, [USER, answer, {"role": "user", "content": "B"}], strict=True)
    assert "tool_calls" not in str(result.sent["messages"])


@each("role", ["system", "user", "assistant", "tool"])
def test_lists_of_texts_are_joined_for_deepseek(role: str) -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    calls = {"role": "assistant", "content": "", "reasoning_content": "t", "tool_calls": [CALL]}
    message = {"role": role, "content": parts, **({"tool_call_id": "call_1"} if role == "tool" else {})}
    result = sent("deepseek", [USER, *([calls] if role == "tool" else []), message, USER], strict=True)
    assert "AB" in [item["content"] for item in result.sent["messages"]]


def test_a_list_with_an_image_stays_a_list() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    message = {"role": "user", "content": [{"type": "text", "text": "A"}, image]}
    assert sent("deepseek", [message]).sent["messages"] == [message]


CACHE = {"type": "ephemeral"}


@each("kind", [kind for kind in ROWS if kind != "openai-compatible"])
@each("place", ["part", "message", "tool", "function"])
def test_cache_control_is_kept_or_reported(kind: str, place: str) -> None:
    text = {"type": "text", "text": "A"}
    part = {"role": "user", "content": [{**text, "cache_control": CACHE}]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    tools = {"tool": {**tool, "cache_control": CACHE}, "function": {**tool, "function": {**tool["function"], "cache_control": CACHE}}}
    message = {"part": part, "message": {"role": "user", "content": "A", "cache_control": CACHE}}.get(place, USER)
    request = {"messages": [message], **({"tools": [tools[place]]} if place in tools and kind != "goodfire" else {})}
    if "tools" not in request and place in tools:
        return
    if kind in ("anthropic", "openrouter"):
        result = adapt(kind, request, strict=True)
        marked = result.sent["tools"][0] if place in tools else result.sent["messages"][0]["content"][-1]
        assert marked["cache_control"] == CACHE
        return
    assert "cache_control" not in str(adapt(kind, request).sent)
    assert any(param.endswith("cache_control") for param in params(adapt(kind, request)))
    with pytest.raises(Refusal) as refused:
        adapt(kind, request, strict=True)
    assert str(refused.value.param).endswith("cache_control")


@each("kind", ["ollama", "vllm", "llamacpp", "openai-compatible"])
def test_developer_is_sent_as_system_to_own_servers(kind: str) -> None:
    messages = [{"role": "developer", "content": "A"}, USER]
    result = sent(kind, messages, strict=True)
    assert result.sent["messages"] == [{"role": "system", "content": "A"}, USER]
    assert ("messages[0].role", "role_map") in result.actions()
    if kind != "ollama":
        assert sent(kind, messages, developer_as_system=False).sent["messages"] == messages


def test_function_messages_become_tool_messages() -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    result = sent("mistral", [USER, call, {"role": "function", "name": "f", "content": "21"}], strict=True)
    answer, tool = result.sent["messages"][1:]
    assert answer["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert (tool["role"], tool["tool_call_id"], tool["content"]) == ("tool", answer["tool_calls"][0]["id"], "21")


def test_thinking_parts_of_mistral_become_reasoning_elsewhere() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "A"}]
    messages = [USER, {"role": "assistant", "content": parts}, USER]
    assert sent("mistral", messages, strict=True).sent["messages"] == messages
    answer = sent("deepseek", messages, strict=True).sent["messages"][1]
    assert (answer["content"], answer["reasoning_content"]) == ("A", "t")


@each(("before", "after"), [
    ("data:image/jpg;base64,AA", "data:image/jpeg;base64,AA"),
    ("data:IMAGE/PNG;base64,AA", "data:image/png;base64,AA"),
    ("data:image/png;charset=utf-8;base64,AA", "data:image/png;base64,AA"),
    ("data:text/plain;charset=utf-8,A%20B", "data:text/plain;charset=utf-8,A%20B"),
    ("https://example.org/a.jpg", "https://example.org/a.jpg"),
])  # fmt: skip
def test_media_types_are_registered_ones(before: str, after: str) -> None:
    assert registered(before) == after


@each(
    ("kind", "part"), [("groq", "file"), ("groq", "input_audio"), ("deepseek", "file"), ("azure", "file"), ("together", "file")]
)
def test_parts_that_a_vendor_does_not_have_are_refused_with_their_path(kind: str, part: str) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": part, part: {"file_data": "x", "data": "x"}}]}
    with pytest.raises(Refusal) as refused:
        sent(kind, [message])
    assert (refused.value.param, refused.value.code) == ("messages[0].content[1]", "unsupported_content")


@pytest.mark.parametrize("name", ["a.b/c", "x" * 200, "1/a"])
def test_names_of_earlier_calls_are_made_valid(name: str) -> None:
    call = {**CALL, "function": {"name": name, "arguments": "{}"}}
    for kind in ("openai", "anthropic", "gemini"):
        result = sent(kind, [USER, {"role": "assistant", "content": None, "tool_calls": [call]}, RESULT], strict=True)
        assert message_objections(kind, result.sent) == []
        assert "messages[1].tool_calls[0].function.name" in params(result)


def test_arguments_that_are_an_object_are_sent_as_text() -> None:
    call = {**CALL, "function": {"name": "f", "arguments": {"a": 1}}}
    result = sent("groq", [USER, {"role": "assistant", "content": None, "tool_calls": [call]}, RESULT])
    assert result.sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_the_receipt_lists_few_changes_of_one_kind() -> None:
    answers = [{"role": "assistant", "content": "A", "reasoning_content": str(number)} for number in range(100)]
    result = sent("mistral", [message for answer in answers for message in (USER, answer)] + [USER])
    listed = [item for item in result.adjustments if item.param.endswith("reasoning_content")]
    assert len(listed) == MAX_LISTED + 1
    assert listed[-1].param == "messages[].reasoning_content"
    assert str(100 - MAX_LISTED) in listed[-1].why


def test_unknown_fields_pass_to_own_servers_unless_another_vendor_defines_them() -> None:
    message = {"role": "user", "content": "A", "frob": 1}
    assert sent("vllm", [message]).sent["messages"] == [message]
    assert "frob" not in sent("groq", [message]).sent["messages"][0]
    marked = {"role": "user", "content": "A", "cache_control": CACHE}
    assert "cache_control" in OTHER_VENDORS_FIELDS
    assert "cache_control" not in sent("vllm", [marked]).sent["messages"][0]


@each("kind", list(ROWS))
def test_capabilities_name_every_field_of_messages(kind: str) -> None:
    assert set(MESSAGE_FIELDS) <= set(providers.get(kind).capabilities("example"))


@each("kind", list(ROWS))
def test_plain_texts_are_not_examined(kind: str) -> None:
    rule = MessagePass(row=row_of(kind))
    raw = rb'[{"role":"system","content":"A"},{"role":"user","content":"\"role\": \"x\", {\"a\": 1}, \u00e9 \\ "}]'
    for padding in (b"", b" " * MAX_PLAIN_BYTES):
        body = b'{"messages":%b}' % raw.replace(b"[{", b"[%b{" % padding)
        assert not rule.is_relevant(Body(body))
        assert rule.is_relevant(Body(body.replace(b'"role":"user"', b'"role":"user","reasoning_content":"t"')))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("kind", "roles"), [(kind, row.text_roles) for kind, row in ROWS.items() if row.text_roles])
def test_an_image_in_a_message_that_has_only_text_is_refused(kind: str, roles: tuple[str, ...], strict: bool) -> None:
    picture = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    for role in roles:
        with pytest.raises(Refusal) as refused:
            sent(kind, [{"role": role, "content": picture}, USER], strict=strict)
        assert (refused.value.param, refused.value.code) == ("messages[0].content[1]", "unsupported_content")
    sent(kind, [{"role": "user", "content": picture}], model="claude-sonnet-4-5", strict=strict)


@each("kind", [kind for kind in providers.OURS if kind not in ("local", "openai", "azure")])
def test_text_of_a_refusal_part_is_kept(kind: str) -> None:
    history = [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]}, USER]
    assert "I will not." in str(sent(kind, history).sent["messages"])
