"""Strict servers for conversations: each yields the faults for which its vendor refuses messages, parts, tool calls and tools.

The facts are in tests/fixtures/strict-messages.yaml, taken from the vendors' packages and from reports. Anthropic's wire is
checked in code, because its blocks have no counterpart in OpenAI's format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import yaml

from tests.providers.cases import FIXTURES

Facts = dict[str, Any]
UNIONS = {"anyOf", "oneOf", "allOf", "enum", "not", "const"}


@cache
def facts_of(server: str) -> Facts:
    """Return the facts of one server."""
    facts: Facts = yaml.safe_load((FIXTURES / "strict-messages.yaml").read_text())[server]
    return facts


def message_objections(server: str, body: Facts, model: str = "example") -> list[str]:
    """Return each reason for which the vendor would refuse the conversation or the tools."""
    if server == "anthropic":
        return [*_anthropic(body), *_anthropic_tools(body)]
    facts = facts_of(server)
    found = [*_order(facts, body["messages"]), *_tools(facts, body)]
    for index, message in enumerate(body["messages"]):
        found += [f"messages[{index}]{reason}" for reason in _message(facts, message, model)]
    return found


def texts_of(value: Any) -> list[str]:
    """Return every text of a JSON value, except the types of parts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [item for name, item in value.items() if name != "type"]
    items = value if isinstance(value, list) else []
    return [text for item in items for text in texts_of(item)]


def _message(facts: Facts, message: Facts, model: str) -> Iterator[str]:
    role = message["role"]
    if role not in facts:
        yield f".role: {role}"
        return
    allowed = {"role", "content", *facts[role]}
    for name, value in message.items():
        if name in facts.get("never", ()) or (name not in allowed and not facts.get("ignores")):
            yield f".{name}: extra_forbidden"
        if value is None and name not in ("content", "refusal", "audio"):
            yield f".{name}: null"
    if "reasoning" in message and "reasoning_models" in facts and not model.startswith(tuple(facts["reasoning_models"])):
        yield ".reasoning: not supported with this model"
    if message.get("tool_calls") == [] or (facts.get("no_tools") and message.get("tool_calls")):
        yield ".tool_calls: refused"
    if facts.get("must_reason") and message.get("tool_calls") and not message.get("reasoning_content"):
        yield ".reasoning_content: must be passed back"
    yield from _content(facts, message)
    for number, call in enumerate(message.get("tool_calls") or ()):
        yield from (f".tool_calls[{number}]{reason}" for reason in _call(facts, call))


def _content(facts: Facts, message: Facts) -> Iterator[str]:
    role, content = message["role"], message.get("content")
    calls = message.get("tool_calls") or message.get("function_call")
    if role in facts.get("strings", ()) and not isinstance(content, str) and not calls:
        yield ".content: must be a string"
    if content is None and not calls:
        yield ".content: required"
    if role in facts.get("blank", ()) and isinstance(content, str) and not content.strip() and not calls:
        yield ".content: empty"
    if facts.get("empty_answers") and role == "assistant" and not calls and not "".join(texts_of(content)).strip():
        yield ".content: assistant message must have either content or tool_calls"
    for number, part in enumerate(content if isinstance(content, list) else ()):
        where = f".content[{number}]"
        kind = part["type"]
        if kind not in (facts.get("result_parts", facts["parts"]) if role == "tool" else facts["parts"]):
            yield f"{where}: type {kind}"
        for name in part:
            cached = name == "cache_control" and ("cache_control" in facts.get("never", ()) or not facts.get("ignores"))
            if name not in ("type", kind) and (cached or not facts.get("ignores")):
                yield f"{where}.{name}: extra"
        if kind == "text" and role in facts.get("blank", ()) and not part["text"].strip():
            yield f"{where}.text: empty"
        if kind == "image_url":
            image = part["image_url"]
            if "detail" in image and not facts.get("detail") and not facts.get("ignores"):
                yield f"{where}.image_url.detail: extra"
            if image["url"].startswith("data:image/jpg"):
                yield f"{where}.image_url.url: media type"


def _call(facts: Facts, call: Facts) -> Iterator[str]:
    allowed = {"id", "type", "function", *facts.get("call", ())}
    if facts.get("custom") and call.get("type") == "custom":
        extra = set(call) - {"id", "type", "custom"} and not facts.get("ignores")
        if extra or set(call["custom"]) != {"name", "input"}:
            yield ".custom: malformed"
        return
    if call.get("type", "function" if facts.get("ignores") else None) != "function":
        yield f".type: {call.get('type')}"
        return
    if not facts.get("ignores"):
        yield from (f".{name}: extra" for name in call if name not in allowed)
    if not isinstance(call["function"].get("arguments"), str):
        yield ": malformed"
    if set(call["function"]) != {"name", "arguments"}:
        yield ".function: extra"
    if "names" in facts and re.fullmatch(facts["names"], call["function"]["name"]) is None:
        yield f".function.name: {call['function']['name']}"
    if "ids" in facts and re.fullmatch(facts["ids"], call["id"]) is None:
        yield f".id: {call['id']}"


def _order(facts: Facts, messages: list[Facts]) -> Iterator[str]:
    ids = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    if facts.get("once") and len(ids) != len(set(ids)):
        yield "ids are not unique"
    if facts.get("turn") and all(message["role"] in ("system", "developer") for message in messages):
        yield "contents is not specified"
    last = messages[-1]
    if "prefix" in facts and last["role"] == "assistant" and not last.get(facts["prefix"]):
        yield "expected last role user or tool"
    if "prefix" in facts and last["role"] in ("system", "developer"):
        yield "expected last role user or tool"
    for before, message in pairwise(messages):
        if before["role"] == "tool" and message["role"] in facts.get("first", ()):
            yield f"unexpected role {message['role']} after role tool"
    if facts.get("results"):
        yield from _unanswered(messages)


def _unanswered(messages: list[Facts]) -> Iterator[str]:
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                yield f"a second result for {message['tool_call_id']}"
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            yield "tool_calls must be followed by tool messages"
        waiting = {call["id"] for call in message.get("tool_calls") or ()}
    if waiting:
        yield "tool_calls must be followed by tool messages"


def _tools(facts: Facts, body: Facts) -> Iterator[str]:
    for index, tool in enumerate(body.get("tools") or ()):
        if facts.get("custom") and tool.get("type") == "custom":
            continue
        if tool.get("type") != "function":
            yield f"tools[{index}].type: {tool.get('type')}"
            continue
        function = tool["function"]
        if facts.get("parameters") and not isinstance(function.get("parameters"), dict):
            yield f"tools[{index}].function.parameters: required"
        if "parameters" in function and function["parameters"] is None:
            yield f"tools[{index}].function.parameters: null"
        if {"$schema", "$id"} & set(function.get("parameters") or ()) & set(facts.get("no_keywords", ())):
            yield f"tools[{index}].function.parameters: failed to compile JSON schema"
        if not facts.get("ignores"):
            allowed = {"name", "description", "parameters", *facts.get("function_fields", ())}
            yield from (f"tools[{index}].{name}: extra" for name in tool if name not in ("type", "function"))
            yield from (f"tools[{index}].function.{name}: extra" for name in function if name not in allowed)
        if "names" in facts and re.fullmatch(facts["names"], function["name"]) is None:
            yield f"tools[{index}].function.name"
        schema = function.get("parameters")
        if facts.get("schema") and schema is not None and (schema.get("type") != "object" or UNIONS & set(schema)):
            yield f"tools[{index}].function.parameters: must be an object"


def _anthropic(body: Facts) -> Iterator[str]:
    messages = body["messages"]
    if not messages:
        yield "messages: at least one message is required"
        return
    if messages[0]["role"] != "user":
        pass  # accepted since 2025; consecutive turns of one role are merged
    system = body.get("system")
    if system is not None and (not system or (isinstance(system, str) and not system.strip())):
        yield "system: text content blocks must be non-empty"
    ids: list[str] = []
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        extra = set(message) - {"role", "content"}
        if extra or message["role"] not in ("user", "assistant"):
            yield f"messages[{index}]: {extra or message['role']}"
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        if not blocks:
            yield f"messages[{index}]: all messages must have non-empty content"
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if message["role"] == "user" and waiting - results:
            yield f"messages[{index}]: tool_use ids were found without tool_result blocks immediately after"
        if results - waiting:
            yield f"messages[{index}]: unexpected tool_use_id found in tool_result blocks"
        kinds = [block["type"] == "tool_result" for block in blocks]
        if kinds != sorted(kinds, reverse=True):
            yield f"messages[{index}]: results must come first"
        if message["role"] == "user":
            waiting = set()
        for number, block in enumerate(blocks):
            yield from (f"messages[{index}].content[{number}]{reason}" for reason in _block(block, message["role"]))
            if block["type"] == "tool_use":
                ids.append(block["id"])
                waiting.add(block["id"])
    if waiting:
        yield "the last tool_use has no result"
    if len(ids) != len(set(ids)):
        yield "tool_use ids must be unique"
    last = messages[-1]
    text = last["content"] if isinstance(last["content"], str) else last["content"][-1].get("text", "") if last["content"] else ""
    if last["role"] == "assistant" and text != text.rstrip():
        yield "final assistant content cannot end with trailing whitespace"


_BLOCKS = {
    "text": {"text"}, "image": {"source"}, "document": {"source", "title", "context"}, "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content", "is_error"}, "thinking": {"thinking", "signature"}, "redacted_thinking": {"data"},
}  # fmt: skip
_MEDIA = {"image": {"image/jpeg", "image/png", "image/gif", "image/webp"}, "document": {"application/pdf"}}


def _block(block: Facts, role: str) -> Iterator[str]:
    kind = block["type"]
    if kind not in _BLOCKS:
        yield f": type {kind}"
        return
    extra = set(block) - _BLOCKS[kind] - {"type", "cache_control"}
    if extra:
        yield f": {extra}"
    if kind == "text" and not block["text"].strip():
        yield ".text: text content blocks must contain non-whitespace text"
    if kind == "tool_use" and (re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", block["id"]) is None or not isinstance(block["input"], dict)):
        yield ".id"
    if kind == "tool_use" and re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"]) is None:
        yield ".name"
    if kind in ("thinking", "redacted_thinking") and (role != "assistant" or not (block.get("signature") or block.get("data"))):
        yield ".signature: required"
    source = block.get("source") or {}
    if source.get("type") == "base64" and source["media_type"] not in _MEDIA[kind]:
        yield f".source.media_type: {source['media_type']}"
    if source.get("type") == "text" and source["media_type"] != "text/plain":
        yield ".source.media_type"
    for inner in block["content"] if isinstance(block.get("content"), list) else ():
        yield from _block(inner, "user")


def _anthropic_tools(body: Facts) -> Iterator[str]:
    for index, tool in enumerate(body.get("tools") or ()):
        extra = set(tool) - {"name", "description", "input_schema", "strict", "cache_control"}
        if extra:
            yield f"tools[{index}]: {extra}"
        if re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]) is None:
            yield f"tools[{index}].name"
        schema = tool["input_schema"]
        if schema.get("type") != "object" or UNIONS & set(schema):
            yield f"tools[{index}].input_schema"
    if any(not stop.strip() for stop in body.get("stop_sequences") or ()):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
