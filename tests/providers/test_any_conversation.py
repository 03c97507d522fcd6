"""Properties of any conversation: the vendor accepts the content that is sent, and all other content is reported, refused or empty."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from gateway.dialects.messages import check_messages
from gateway.errors import BadRequest
from providers.base import LOSSY, Body, Options, Refusal
from tests.providers.adapting import Adapted, adapt, target_for
from tests.providers.strict_messages import message_objections
from tests.providers.strict_responses import response_objections
from tests.support.search import examples

SEARCH = settings(max_examples=examples(12))
MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-4.1", "groq": "openai/gpt-oss-120b", "deepseek": "deepseek-v4-pro"}
TEXTS = st.sampled_from(["A", "B ", "", " ", "\n", "C\n"])
PARTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        TEXTS.map(lambda text: {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}),
    ),
    max_size=3,
)
IMAGES = st.sampled_from(["data:image/jpg;base64,AAAA", "data:image/png;charset=utf-8;base64,AAAA", "https://example.org/a.png"])
IMAGE_PARTS = st.builds(
    lambda text, url, detail: [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url, **detail}}],
    TEXTS, IMAGES, st.sampled_from([{}, {"detail": "auto"}, {"detail": "high"}]),
)  # fmt: skip
EXTRAS: dict[str, list[Any]] = {
    "refusal": [None, "no"],
    "annotations": [[], [{"type": "url_citation"}]],
    "audio": [None],
    "function_call": [None],
    "reasoning_content": ["t", "", None],
    "reasoning": ["t", "u"],
    "reasoning_details": [[], [{"type": "reasoning.text"}]],
    "thinking_blocks": [[{"type": "thinking", "thinking": "t", "signature": "s"}], [{"type": "thinking", "thinking": "t"}], []],
    "extra_content": [{"google": {"thought_signature": "x"}}],
    "name": ["ann", None],
    "cache_control": [{"type": "ephemeral"}],
    "frob": [1, None],
}
IDS = st.sampled_from(["call_1", "call.1", "functions.f:0", "x" * 70, "toolu_01", "abcDEF123", ""])
CALL_EXTRAS = st.sampled_from([{}, {"index": 0}, {"extra_content": {"google": {}}}, {"extra_content": {"a": "b"}}])


CUSTOM = {"type": "custom", "custom": {"name": "f", "input": 'a "b"'}}
RESULTS = st.one_of(st.sampled_from(["21", "22"]), IMAGE_PARTS)
ODD: list[Any] = [
    1, True, "", "x", [], {}, ["x"], [None], [{}], {"a": 1}, [{"type": "text"}], [{"type": "image_url", "image_url": 5}],
    [{"type": "file", "file": {"file_data": "data:x"}}], [{"type": "thinking", "thinking": 5}], [{"type": "refusal"}],
    [{"id": "c", "function": None}], [{"id": "c", "type": 5, "function": "x"}], [{"id": "c", "function": {"name": 5, "arguments": 5}}],
]  # fmt: skip
ODD_MESSAGES = st.builds(
    lambda role, content, fields: {"role": role, "content": content, **fields},
    st.sampled_from(["user", "assistant", "system", "developer", "function"]),
    st.sampled_from(["A", *ODD]),
    st.dictionaries(st.sampled_from([*sorted(EXTRAS), "tool_calls"]), st.sampled_from(ODD), max_size=3),
)
BRANCHES = st.lists(st.dictionaries(st.sampled_from(["properties", "required"]), st.sampled_from(ODD)), max_size=2)
ODD_SCHEMAS = st.dictionaries(
    st.sampled_from(["anyOf", "allOf", "properties", "required", "type", "enum", "$ref"]),
    st.one_of(st.sampled_from(ODD), BRANCHES),
    max_size=3,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw a conversation that the gateway accepts: every tool result follows its call."""
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["system", "developer", "user", "user", "assistant", "assistant", "tool"]))
        message: dict[str, Any] = {"role": role, "content": draw(st.one_of(TEXTS, PARTS))}
        if role == "tool":
            if not waiting:
                continue
            message["tool_call_id"] = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
            message["content"] = draw(RESULTS)
        elif role == "user" and draw(st.booleans()):
            message["content"] = draw(IMAGE_PARTS)
        elif role == "assistant":
            for name in draw(st.lists(st.sampled_from(sorted(EXTRAS)), unique=True, max_size=4)):
                message[name] = draw(st.sampled_from(EXTRAS[name]))
            if draw(st.booleans()):
                ids = draw(st.lists(IDS, max_size=2))
                function = {"name": "f", "arguments": draw(st.sampled_from(["{}", '{"a": 1}', ""]))}
                made = st.sampled_from([{"type": "function", "function": function}, {"function": function}, CUSTOM])
                message["tool_calls"] = [{"id": id, **draw(made), **draw(CALL_EXTRAS)} for id in ids]
                waiting = list(ids)
        messages.append(message)
        if role == "assistant" and draw(st.booleans()):
            answered = waiting if draw(st.booleans()) else [*waiting, *waiting[:1]]
            messages += [{"role": "tool", "tool_call_id": id, "content": draw(RESULTS)} for id in answered]
            waiting = []
    return messages or [{"role": "user", "content": "Hi"}]


def attempt(kind: str, messages: list[dict[str, Any]], *, strict: bool, **settings: Any) -> Adapted | None:
    """Return the adapted request, or None if it is refused."""
    try:
        check_messages(json.dumps(messages).encode())
        return adapt(kind, {"messages": messages}, model=MODELS.get(kind, "example"), strict=strict, **settings)
    except BadRequest:
        return None
    except Refusal as refused:
        return None if refused.param and refused.message else pytest.fail("a refusal names its parameter and says why")


@pytest.mark.parametrize("kind", sorted(providers.OURS))
@SEARCH
@given(messages=conversations())
def test_the_vendor_accepts_any_conversation_that_is_sent(kind: str, messages: list[dict[str, Any]]) -> None:
    for strict in (False, True):
        result = attempt(kind, messages, strict=strict)
        assert result is None or message_objections(kind, result.sent, MODELS.get(kind, "example")) == []


@pytest.mark.parametrize("strict", [False, True])
@SEARCH
@given(messages=conversations())
def test_the_responses_api_accepts_any_conversation_that_is_sent(strict: bool, messages: list[dict[str, Any]]) -> None:
    result = attempt("openai", messages, strict=strict, upstream_api="responses")
    if result is None:
        return
    assert response_objections(result.sent, reasons=False) == []
    for item in result.adjustments if strict else ():
        assert item.action not in LOSSY or item.why.startswith(("neutral", "same value")), item


@pytest.mark.parametrize("kind", sorted(providers.OURS))
@SEARCH
@given(messages=conversations())
def test_the_callers_body_stays_as_it_is_for_the_next_target(kind: str, messages: list[dict[str, Any]]) -> None:
    body = Body(json.dumps({"model": "m", "messages": messages}).encode())
    body.get("messages")
    target = target_for(kind, MODELS.get(kind, "example"))
    with suppress(Refusal):
        target.kind.adapt(body.copy(), target, Options())
    assert body.get("messages") == messages


@pytest.mark.parametrize("kind", sorted(providers.OURS))
@SEARCH
@given(messages=conversations())
def test_strict_mode_loses_nothing(kind: str, messages: list[dict[str, Any]]) -> None:
    result = attempt(kind, messages, strict=True)
    for item in result.adjustments if result else ():
        if item.action in LOSSY and item.param.startswith("messages"):
            assert item.why.startswith(("neutral", "same value")), item


@pytest.mark.parametrize("kind", sorted(providers.OURS))
@SEARCH
@given(messages=st.lists(ODD_MESSAGES, min_size=1, max_size=3), schema=ODD_SCHEMAS)
def test_odd_values_are_sent_or_refused(kind: str, messages: list[dict[str, Any]], schema: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    with suppress(BadRequest, Refusal):
        check_messages(json.dumps(messages).encode())
        adapt(kind, {"messages": messages, "tools": tools}, model=MODELS.get(kind, "example"))
    if kind == "openai":
        with suppress(BadRequest, Refusal):
            check_messages(json.dumps(messages).encode())
            adapt(kind, {"messages": messages, "tools": tools}, model="gpt-5.6", upstream_api="responses")
