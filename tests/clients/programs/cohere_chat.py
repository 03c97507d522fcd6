"""cohere, ClientV2: thinking, tools with their results, images, documents, errors and an abandoned stream. Prints one JSON object."""

import json
import os
from typing import Any

import cohere

MODEL, ORIGIN = os.environ["MODEL"], os.environ["ORIGIN"]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}}]
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def says(text: Any, **more: Any) -> Any:
    """Return messages with one user message."""
    return [{"role": "user", "content": text, **more}]


def failure(**call: Any) -> list[Any]:
    """Return the class, the status and the body's fields of the error of a call, or the finish reason if it succeeds."""
    key = call.pop("key", os.environ["API_KEY"])
    try:
        answer = cohere.ClientV2(api_key=key, base_url=ORIGIN).chat(**call, request_options={"max_retries": 0})
    except cohere.core.ApiError as error:
        return [type(error).__name__, error.status_code, sorted(error.body)]
    return [answer.finish_reason]


client = cohere.ClientV2(api_key=os.environ["API_KEY"], base_url=ORIGIN)
found: dict[str, Any] = {}
answer = client.chat(model=MODEL, messages=says("hello"), max_tokens=3, k=5, p=0.9)
found["answer"] = [answer.message.content[0].text, answer.finish_reason, answer.usage.tokens.output_tokens]
thoughtful = client.chat(model=MODEL, messages=says("think first"))
found["thinking"] = [getattr(part, part.type) for part in thoughtful.message.content]
asked = says("use the tool")
first = client.chat(model=MODEL, messages=asked, tools=TOOLS, tool_choice="REQUIRED")
found["tool"] = [first.finish_reason, first.message.tool_calls[0].function.name, first.message.tool_calls[0].function.arguments]
weather = [{"type": "document", "document": {"data": {"sky": "sunny"}}}]
result = {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": weather}
turns = [*asked, {"role": "assistant", "tool_calls": first.message.tool_calls, "tool_plan": first.message.tool_plan}, result]
found["after_tool"] = client.chat(model=MODEL, messages=turns, tools=TOOLS).message.content[0].text
kinds, arguments, last = [], "", None
for event in client.chat_stream(model=MODEL, messages=asked, tools=TOOLS):
    if not kinds or kinds[-1] != event.type:
        kinds.append(event.type)
    if event.type == "tool-call-delta":
        arguments += event.delta.message.tool_calls.function.arguments
    last = event
found["stream"] = [kinds, arguments, last.delta.finish_reason]
picture = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
found["image"] = client.chat(model=MODEL, messages=says(picture)).message.content[0].text
found["documents"] = client.chat(model=MODEL, messages=says("cite"), documents=["One.", {"data": {"text": "Two."}}]).finish_reason
found["usage"] = [
    event.delta.usage.tokens.input_tokens
    for event in client.chat_stream(model=MODEL, messages=says("hi"))
    if event.type == "message-end"
]
found["broken"] = [
    [event.delta.finish_reason, bool(event.delta.error)]
    for event in client.chat_stream(model=MODEL, messages=says("break the stream"))
    if event.type == "message-end"
]
found["before_abort"] = next(iter(client.chat_stream(model=MODEL, messages=says("#chunks=2000# #delay=20ms#")))).type
found["errors"] = [
    failure(model=MODEL, messages=says("x"), key="wrong"),
    failure(model="no-such-model", messages=says("x")),
    failure(model=MODEL, messages=says("x"), k="many"),
    failure(model=MODEL, messages=says("fail with 429")),
    failure(model=MODEL, messages=says("fail with 503")),
]
print(json.dumps(found))
