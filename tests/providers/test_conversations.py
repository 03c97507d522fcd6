"""A conversation begun at any provider continues at any other: with tools, reasoning and images, in lenient and strict mode."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import LOSSY, Refusal
from tests.providers.adapting import Adapted, adapt
from tests.providers.everything import WEATHER
from tests.providers.strict_messages import message_objections
from tests.providers.strict_responses import response_objections
from tests.support.each import each

TYPES = sorted(providers.OURS)
IMAGE = "data:image/png;base64,AAAA"
BLOCK = {"type": "thinking", "thinking": "hm", "signature": "sig"}
DETAILS = [{"type": "reasoning.text", "text": "hm", "index": 0}]
SEALED = {"type": "reasoning.encrypted", "format": "openai-responses-v1", "id": "rs_1", "data": "gAAA", "index": 0, "origin": "openai"}
SIGNED = {"google": {"thought_signature": "abc"}}
SDK = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
"""Empty fields of the OpenAI package, which sends back every field of an answer."""

ANSWERS: dict[str, dict[str, Any]] = {
    "anthropic": {"reasoning_content": "hm", "thinking_blocks": [BLOCK], "refusal": None},
    "cohere": {"reasoning_content": "hm", "citations": [{"start": 0, "end": 1, "text": "S"}]},
    "mistral": {"reasoning_content": "hm", "prefix": False},
    "gemini": {"extra_content": SIGNED},
    "openrouter": {"reasoning": "hm", "reasoning_details": DETAILS, "refusal": None},
    "openai": SDK,
    "azure": SDK,
    "goodfire": {},
    "siati": {},
    **{kind: {"reasoning": "hm", **SDK} for kind in ("cerebras", "groq", "ollama", "together", "vllm")},
    **{kind: {"reasoning_content": "hm"} for kind in ("deepseek", "fireworks", "friendli", "llamacpp", "local", "xai")},
    "openai-compatible": {"reasoning_content": "hm"},
    "openai's responses": {"reasoning_content": "hm", "reasoning_details": [SEALED], "refusal": None},
}
"""Fields of an assistant message that each type's answers have besides role, content and tool_calls."""
IDS = {"anthropic": "toolu_01AbC", "gemini": "function-call-1234567890123456789012345678901234", "ollama": "call.1", "mistral": "abcDEF123"}
CALL_FIELDS: dict[str, dict[str, Any]] = {"gemini": {"extra_content": SIGNED}, "mistral": {"index": 0}, "together": {"index": 0}}
TASKS = ("text", "tools", "image", "custom", "image result", "two results", "legacy")
"""The features that a conversation uses. All but the first need tools, or images, or both."""
NO_TOOLS = {"goodfire"}
MODELS = {"groq": "openai/gpt-oss-120b", "anthropic": "claude-sonnet-4-5", "openai": "gpt-4.1", "deepseek": "deepseek-v4-pro"}


def conversation(origin: str, task: str) -> dict[str, Any]:
    """Return a request that continues a conversation whose answers came from `origin`."""
    answer = {"role": "assistant", "content": "Sunny.", **ANSWERS[origin]}
    begin: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Bern?"}]
    picture = {"type": "image_url", "image_url": {"url": IMAGE}}
    if task == "image":
        begin = [begin[0], {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    if task in ("text", "image"):
        return {"messages": [*begin, answer, {"role": "user", "content": "Thanks."}]}
    if task == "legacy":
        call = {"name": "get_weather", "arguments": '{"city": "Bern"}'}
        legacy = [{**answer, "content": None, "function_call": call}, {"role": "function", "name": "get_weather", "content": "21 degrees"}]
        return {"messages": [*begin, *legacy, answer], "functions": [WEATHER["function"]], "function_call": "auto"}
    id = IDS.get(origin, "call_1")
    function = {"name": "get_weather", "arguments": '{"city": "Bern"}'}
    call = {"id": id, "type": "function", "function": function, **CALL_FIELDS.get(origin, {})}
    tools = [WEATHER]
    if task == "custom":
        call = {"id": id, "type": "custom", "custom": {"name": "patch", "input": "- a\n+ b"}}
        tools = [{"type": "custom", "custom": {"name": "patch"}}]
    result = {"role": "tool", "tool_call_id": id, "content": "21 degrees"}
    if task == "image result":
        result["content"] = [{"type": "text", "text": "21 degrees"}, picture]
    turn = [{**answer, "content": None, "tool_calls": [call]}, result]
    if task == "two results":
        turn.append({**result, "content": "and rain"})
    later = [{**answer, "content": "", "tool_calls": [call]}, result]
    return {"messages": [*begin, *turn, answer, {"role": "user", "content": "Again."}, *later, answer, begin[1]], "tools": tools}


def origins(task: str) -> list[str]:
    """Return the types that begin a conversation: all of them, or those whose answers differ most."""
    return sorted(ANSWERS) if task in ("text", "tools", "image") else ["anthropic", "gemini", "mistral", "openai"]


def is_refused(kind: str, task: str) -> bool:
    """Return whether the vendor lacks a feature that the conversation needs."""
    return task not in ("text", "image") and kind in NO_TOOLS


def texts_of(value: Any) -> list[str]:
    """Return every text of a body, in any wire format."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in texts_of(item)]


def check(kind: str, request: dict[str, Any], result: Adapted) -> None:
    """Check that the vendor accepts the request, and that every text of the caller is in it or reported as lost."""
    assert message_objections(kind, result.sent, MODELS.get(kind, "example")) == []
    sent = "\n".join(texts_of(result.sent))
    texts = ["Be brief.", "Sunny.", "21 degrees" if {"tools", "functions"} & set(request) else "Thanks."]
    texts += [text for text in ("and rain", "AAAA") if text in "".join(texts_of(request["messages"]))]
    texts += ["- a"] if "+ b" in json.dumps(request) else []
    left_out = any(item.from_ == "image_url" for item in result.adjustments)
    for text in texts:
        assert text in sent or (text == "AAAA" and left_out)
    for index, message in enumerate(request["messages"]):
        for name, value in message.items():
            if name in ("role", "content", "tool_calls", "tool_call_id") or value in (None, [], False):
                continue
            kept = any(piece in sent for piece in texts_of(value)) or name in json.dumps(result.sent["messages"])
            reported = any(item.param.startswith((f"messages[{index}].{name}", f"messages[].{name}")) for item in result.adjustments)
            assert kept or reported, f"{name} was lost"


@each("task", TASKS)
@each("kind", TYPES)
def test_a_conversation_begun_at_any_provider_is_continued(kind: str, task: str) -> None:
    for origin in origins(task):
        request = conversation(origin, task)
        if is_refused(kind, task):
            with pytest.raises(Refusal):
                adapt(kind, request, model=MODELS.get(kind, "example"))
            continue
        for stream in (False, True):
            check(kind, request, adapt(kind, {**request, "stream": stream}, model=MODELS.get(kind, "example"), tools=True))


@each(("kind", "task"), [
    (kind, task) for kind in TYPES for task in TASKS
    if not is_refused(kind, task)
])  # fmt: skip
def test_strict_mode_refuses_exactly_what_lenient_mode_loses(kind: str, task: str) -> None:
    for origin in origins(task):
        request, model = conversation(origin, task), MODELS.get(kind, "example")
        lenient = adapt(kind, request, model=model, tools=True)
        lost = [item for item in lenient.adjustments if item.action in LOSSY and item.param.startswith("messages")
                and not item.why.startswith(("neutral", "same value"))]  # fmt: skip
        if lost:
            with pytest.raises(Refusal) as refused:
                adapt(kind, request, model=model, strict=True, tools=True)
            assert refused.value.param in {item.param for item in lost}
        else:
            assert adapt(kind, request, model=model, strict=True, tools=True).sent == lenient.sent, origin


@each("kind", TYPES)
def test_a_plain_conversation_passes_untouched(kind: str) -> None:
    request = {"messages": [{"role": "system", "content": "A"}, {"role": "user", "content": "Say \"b\": {\"c\": 1}\n"}]}
    result = adapt(kind, request, strict=True)
    assert [item for item in result.adjustments if item.param.startswith("messages") and item.to != "system"] == []
    assert result.sent["messages"][-1] == request["messages"][-1]


@each("kind", ["openai", "azure"])
@each("task", TASKS)
def test_a_conversation_begun_at_any_provider_is_continued_at_the_responses_api(kind: str, task: str) -> None:
    for origin in sorted(ANSWERS):
        request = conversation(origin, task)
        sent = adapt(kind, request, model="gpt-5.6", upstream_api="responses").sent
        assert response_objections(sent) == [], origin
        texts = texts_of(sent["input"])
        assert {"Sunny.", "Be brief."} <= set(texts), origin
        own = kind == "openai" and origin == "openai's responses"
        assert any(item.get("type") == "reasoning" for item in sent["input"]) is own, origin
