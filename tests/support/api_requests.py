"""Writes chat completions as the requests of other APIs."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]
DEFAULT_CAP = 50
"""The output cap of a Messages request that states none, because that API requires one."""


def to_completion(chat: Json) -> Json:
    """Write the request of a chat completion with one message as the request of a completion."""
    (message,) = chat["messages"]
    return {"prompt": message["content"], **{name: value for name, value in chat.items() if name != "messages"}}


def _image_source(url: str) -> Json:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    media, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": media, "data": data}


def _to_blocks(content: Any) -> Any:
    if type(content) is not list:
        return content
    return [
        {"type": "image", "source": _image_source(part["image_url"]["url"])} if part["type"] == "image_url" else part
        for part in content
    ]


def _assistant_blocks(message: Json) -> Any:
    content = message["content"]
    blocks: list[Json] = []
    if message.get("reasoning_content"):
        blocks.append({"type": "thinking", "thinking": message["reasoning_content"], "signature": ""})
    if type(content) is str and not blocks and not message.get("tool_calls"):
        return content
    if content:
        blocks += [{"type": "text", "text": content}] if type(content) is str else content
    for call in message.get("tool_calls") or ():
        function = call["function"]
        blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": json.loads(function["arguments"])})
    return blocks


def _turns(messages: list[Json]) -> list[Json]:
    turns: list[Json] = []
    results: list[Json] | None = None
    for message in messages:
        if message["role"] != "tool":
            results = None
            content = _assistant_blocks(message) if message["role"] == "assistant" else _to_blocks(message["content"])
            turns.append({"role": message["role"], "content": content})
            continue
        if results is None:
            results = []
            turns.append({"role": "user", "content": results})
        result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": _to_blocks(message["content"])}
        results.append(result)
    return turns


def _message_choice(chat: Json) -> Json:
    choice = chat.get("tool_choice") or "auto"
    if type(choice) is dict:
        written = {"type": "tool", "name": choice["function"]["name"]}
    else:
        written = {"type": {"required": "any"}.get(choice, choice)}
    return written | ({"disable_parallel_tool_use": True} if chat.get("parallel_tool_calls") is False else {})


def to_message(chat: Json) -> Json:
    """Write a chat completion as a Messages request."""
    messages = chat["messages"]
    cap = chat.get("max_tokens") or chat.get("max_completion_tokens") or DEFAULT_CAP
    body: Json = {"model": chat["model"], "max_tokens": cap}
    if messages and messages[0]["role"] == "system":
        body["system"] = _to_blocks(messages[0]["content"])
        messages = messages[1:]
    body["messages"] = _turns(messages)
    output: Json = {}
    for name, value in chat.items():
        if name == "stop":
            body["stop_sequences"] = [value] if type(value) is str else value
        elif name == "user":
            body["metadata"] = {"user_id": value}
        elif name == "tools":
            functions = [tool["function"] for tool in value]
            body["tools"] = [
                {{"parameters": "input_schema"}.get(key, key): each for key, each in function.items()} for function in functions
            ]
        elif name in ("tool_choice", "parallel_tool_calls"):
            body["tool_choice"] = _message_choice(chat)
        elif name == "response_format":
            output["format"] = {"type": "json_schema", "schema": value["json_schema"]["schema"]}
        elif name == "reasoning_effort":
            output["effort"] = value
        elif name not in ("model", "messages", "max_tokens", "max_completion_tokens", "stream_options"):
            body[name] = value
    return body | ({"output_config": output} if output else {})


_COHERE_NAMES = {"stop": "stop_sequences", "top_p": "p", "top_k": "k", "max_completion_tokens": "max_tokens"}


def to_cohere(chat: Json) -> Json:
    """Write a chat completion as a request of Cohere's chat API."""
    body: Json = {}
    for name, value in chat.items():
        if name == "stop":
            body["stop_sequences"] = [value] if type(value) is str else value
        elif name == "tool_choice":
            body[name] = {"required": "REQUIRED", "none": "NONE"}.get(value, value)
        elif name == "response_format" and "json_schema" in value:
            body[name] = {"type": "json_object", "json_schema": value["json_schema"]["schema"]}
        elif name != "stream_options":
            body[_COHERE_NAMES.get(name, name)] = value
    return body


def _to_parts(content: Any, kind: str) -> Any:
    if type(content) is not list:
        return content
    return [
        {"type": "input_image", "image_url": part["image_url"]["url"]} if part["type"] == "image_url" else {**part, "type": kind}
        for part in content
    ]


def _items(messages: list[Json]) -> list[Json]:
    items: list[Json] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "tool":
            output = _to_parts(content, "input_text")
            items.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": output})
            continue
        if message.get("reasoning_content"):
            thought = {"type": "reasoning_text", "text": message["reasoning_content"]}
            items.append({"type": "reasoning", "id": f"rs_{len(items)}", "summary": [], "content": [thought]})
        if content is not None:
            kind = "output_text" if role == "assistant" else "input_text"
            items.append({"role": role, "content": _to_parts(content, kind)})
        for call in message.get("tool_calls") or ():
            items.append({"type": "function_call", "call_id": call["id"], **call["function"]})
    return items


def to_response(chat: Json) -> Json:
    """Write a chat completion as a request of the Responses API."""
    messages = chat["messages"]
    body: Json = {"model": chat["model"]}
    if messages and messages[0]["role"] == "system" and type(messages[0]["content"]) is str:
        body["instructions"] = messages[0]["content"]
        messages = messages[1:]
    body["input"] = _items(messages)
    for name, value in chat.items():
        if name in ("max_tokens", "max_completion_tokens"):
            body["max_output_tokens"] = value
        elif name == "tools":
            body["tools"] = [{"type": "function", **tool["function"]} for tool in value]
        elif name == "tool_choice" and type(value) is dict:
            body["tool_choice"] = {"type": "function", **value["function"]}
        elif name == "response_format":
            body["text"] = {"format": {"type": value["type"], **value.get("json_schema", {})}}
        elif name == "reasoning_effort":
            body["reasoning"] = {"effort": value}
        elif name not in ("model", "messages", "stream_options"):
            body[name] = value
    return body
