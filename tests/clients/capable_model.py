"""A scripted upstream that plays a capable model: it calls tools, keeps to schemas and stops, and reports usage.

It is strict: a conversation that a real model's API would refuse gets a 400, which the test reports as a lost answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema

from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import Exchange

GREETING = "Hello there, how are you today? I can help you."
ENDLESS = "without end"
"""A prompt with these words gets a stream that ends only when the client disconnects."""
DIMENSIONS = 8
_WORD = re.compile(r"\w+")
_PARTS = {"text", "image_url", "file", "input_audio", "refusal"}
_MAGIC = {"image/png": b"\x89PNG", "application/pdf": b"%PDF", "wav": b"RIFF"}


class RefusedError(ValueError):
    """The request breaks a rule of the API."""


async def answer_chat(exchange: Exchange) -> None:
    """Answer a chat completion, as a stream if requested."""
    fields = exchange.request.json
    try:
        check_messages(fields["messages"])
        message, finish = reply(fields)
    except RefusedError as error:
        await status(400, str(error), type="invalid_request_error")(exchange)
        return
    usage = _usage(fields, message)
    head = {"id": "chatcmpl-capable", "created": 1_760_000_000, "model": fields["model"]}
    if not fields.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        await canned(json.dumps(whole).encode())(exchange)
        return
    await exchange.start_stream()
    head["object"] = "chat.completion.chunk"
    for delta in _deltas(message):
        await exchange.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    while ENDLESS in _text(fields["messages"][-1]):
        await exchange.event({**head, "choices": [{"index": 0, "delta": {"content": "more "}, "finish_reason": None}]})
        await exchange.sleep(0.01)
    await exchange.event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if (fields.get("stream_options") or {}).get("include_usage"):
        await exchange.event({**head, "choices": [], "usage": usage})
    await exchange.event(b"[DONE]")
    await exchange.chunk(b"")


async def answer_embeddings(exchange: Exchange) -> None:
    """Answer with one vector for each input, the same for the same input."""
    fields = exchange.request.json
    inputs = fields["input"]
    if type(inputs) is str or type(inputs[0]) is int:
        inputs = [inputs]
    packed = fields.get("encoding_format") == "base64"
    rows = [{"object": "embedding", "index": at, "embedding": _vector(each, packed)} for at, each in enumerate(inputs)]
    usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
    whole = {"object": "list", "data": rows, "model": fields["model"], "usage": usage}
    await canned(json.dumps(whole).encode())(exchange)


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise RefusedError if a call of a tool has no result, a result has no call, or a part cannot be read."""
    awaited: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in awaited:
                raise RefusedError(f"a result without a call: {message['tool_call_id']}")
            awaited.remove(message["tool_call_id"])
        elif awaited:
            raise RefusedError(f"calls without results: {sorted(awaited)}")
        for call in message.get("tool_calls") or ():
            json.loads(call["function"]["arguments"])
            awaited.add(call["id"])
        content = message.get("content")
        if content is None and not message.get("tool_calls"):
            raise RefusedError("a message without content")
        for part in content if type(content) is list else ():
            _check_part(part)
    if awaited:
        raise RefusedError(f"calls without results: {sorted(awaited)}")


def _check_part(part: Mapping[str, Any]) -> None:
    kind = part["type"]
    if kind not in _PARTS:
        raise RefusedError(f"unknown part: {kind}")
    if kind == "image_url" and not part["image_url"]["url"].startswith("https://"):
        _check_data(part["image_url"]["url"])
    elif kind == "file":
        _check_data(part["file"]["file_data"])
    elif kind == "input_audio":
        _check_bytes(part["input_audio"]["data"], part["input_audio"]["format"])


def _check_data(url: str) -> None:
    found = re.fullmatch(r"data:([^;]+);base64,(.*)", url)
    if found is None:
        raise RefusedError(f"not a data URL: {url[:40]}")
    _check_bytes(found[2], found[1])


def _check_bytes(data: str, kind: str) -> None:
    try:
        start = base64.b64decode(data, validate=True)[:4]
    except binascii.Error as error:
        raise RefusedError(f"not base64: {error}") from error
    if start != _MAGIC.get(kind):
        raise RefusedError(f"not of type {kind}: {start!r}")


def reply(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the message and its finish reason."""
    messages = fields["messages"]
    asked = _text(messages[-1]) if messages[-1]["role"] == "user" else ""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if fields.get("reasoning_effort", "none") != "none" or (fields.get("thinking") or {}).get("type") == "enabled":
        message["reasoning_content"] = "I think about it."
    called = _called(fields, asked)
    if called:
        message["tool_calls"] = [_call(tool["function"], asked, at) for at, tool in enumerate(called)]
        return message, "tool_calls"
    text, finish = _written(fields, asked), "stop"
    stops = fields.get("stop") or []
    for stop in [stops] if type(stops) is str else stops:
        text = text.split(stop)[0]
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
    pieces = _pieces(text)
    if limit and len(pieces) > limit:
        text, finish = "".join(pieces[:limit]), "length"
    message["content"] = text
    return message, finish


def _called(fields: Mapping[str, Any], asked: str) -> list[dict[str, Any]]:
    """Return the tools to call: the forced one, those that the user names, or the most similar one."""
    tools, choice = fields.get("tools") or [], fields.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return []
    if type(choice) is dict:
        wanted = [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
        if not wanted:
            raise RefusedError("tool_choice names a tool that is not offered")
        return wanted
    named = [tool for tool in tools if tool["function"]["name"] in asked]
    if named:
        return named[:1] if fields.get("parallel_tool_calls") is False else named
    words = {word.lower() for word in _WORD.findall(asked) if len(word) > 3}
    best = max(tools, key=lambda tool: len(words & set(tool["function"]["name"].lower().split("_"))))
    similar = words & set(best["function"]["name"].lower().split("_"))
    return [best] if choice == "required" or similar else []


def _call(function: Mapping[str, Any], asked: str, at: int) -> dict[str, Any]:
    arguments = json.dumps(_conforming(function.get("parameters") or {"type": "object"}, asked), ensure_ascii=False)
    digest = hashlib.sha256(f"{asked}{at}".encode()).hexdigest()[:12]
    return {"id": f"call_{digest}", "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _written(fields: Mapping[str, Any], asked: str) -> str:
    """Return the text of an answer: JSON if the request requires it."""
    wanted = fields.get("response_format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        return json.dumps(_conforming(wanted["json_schema"]["schema"], asked))
    if wanted["type"] == "json_object":
        if not any("json" in _text(message).lower() for message in fields["messages"]):
            raise RefusedError("JSON mode needs the word JSON in the messages")
        return json.dumps({key: f"the {key}" for key in re.findall(r"'(\w+)'", asked)})
    return GREETING


def _conforming(schema: Mapping[str, Any], asked: str) -> Any:
    """Return a value that conforms to the schema, with the numbers and quoted texts of the prompt where they fit."""
    numbers, quoted = iter(re.findall(r"-?\d+", asked)), iter(re.findall(r"'([^']+)'", asked))
    definitions = schema.get("$defs", {})

    def value(of: Mapping[str, Any], name: str) -> Any:
        if "$ref" in of:
            return value(definitions[of["$ref"].rsplit("/", 1)[-1]], name)
        if "const" in of or "enum" in of:
            return of["const"] if "const" in of else of["enum"][0]
        options = of.get("anyOf") or of.get("oneOf")
        if options:
            return value(options[0], name)
        kind = of.get("type", "object")
        if kind == "object":
            return {each: value(inner, each) for each, inner in (of.get("properties") or {}).items()}
        if kind == "array":
            return [value(of.get("items") or {"type": "string"}, name)]
        if kind in ("integer", "number"):
            return int(next(numbers, 1))
        return {"string": next(quoted, f"the {name}"), "boolean": True}.get(kind)

    made = value(schema, "value")
    jsonschema.validate(made, dict(schema))
    return made


def _deltas(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the message in pieces, as a stream sends them."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(message.get("reasoning_content") or "")]
    deltas += [{"content": piece} for piece in _pieces(message["content"] or "")]
    for at, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "index": at, "function": {"name": name, "arguments": ""}}]})
        half = len(arguments) // 2
        for piece in (arguments[:half], arguments[half:]):
            deltas.append({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    return deltas


def _usage(fields: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    asked = 8 + sum(len(_pieces(_text(each))) for each in fields["messages"])
    thought = len(_pieces(message.get("reasoning_content") or ""))
    said = thought + len(_pieces(message["content"] or "")) + 5 * len(message.get("tool_calls") or ())
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _vector(text: Any, packed: bool) -> list[float] | str:
    digest = hashlib.sha256(json.dumps(text).encode()).digest()
    numbers = [byte / 256 for byte in digest[:DIMENSIONS]]
    return base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *numbers)).decode() if packed else numbers


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if type(content) is str else " ".join(part.get("text", "") for part in content)


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)
