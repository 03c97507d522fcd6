"""Checks the grammar of a response's events as a strict client does, and makes short requests."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.dialects.responses_api.dialect import ResponsesTranslator

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LAST = ("response.completed", "response.incomplete", "response.failed")
DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "text",
    "response.reasoning_summary_text.delta": "text",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}


def to_chat(body: dict[str, Any], *, strict: bool = False) -> dict[str, Any]:
    """Return the chat completion that a request becomes. The request has a model and an input."""
    source = json.dumps({"model": "m", "input": "Hi", **body}).encode()
    made = ResponsesTranslator()
    chat: dict[str, Any] = json.loads(made.request(source, strict=strict))
    if made.refusal is not None:
        raise made.refusal
    return chat


def messages(*items: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a request with these items."""
    found: list[dict[str, Any]] = to_chat({"input": list(items)})["messages"]
    return found


def translator(**body: Any) -> ResponsesTranslator:
    """Return the translator of a request."""
    made = ResponsesTranslator()
    made.request(json.dumps({"model": "m", "input": "Hi", **body}).encode(), strict=False)
    return made


def response_of(completion: dict[str, Any], **body: Any) -> dict[str, Any]:
    """Return the response for a chat completion. Its types are those of the openai package."""
    response: dict[str, Any] = json.loads(translator(**body).answer(json.dumps(completion).encode()))
    Response.model_validate(response)
    return response


def parse(stream: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream without its comments."""
    assert stream.endswith(b"\n\n")
    events = []
    for block in stream.split(b"\n\n"):
        if not block or block.startswith(b":"):
            continue
        name, _, data = block.partition(b"\n")
        event = msgspec.json.decode(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def assemble(stream: bytes, *, typed: bool = True) -> dict[str, Any]:
    """Check the grammar of a stream, and that its deltas add up to the final response. Return this response."""
    events = parse(stream)
    if typed:
        for event in events:
            _EVENT.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] for event in events if event["type"] in LAST] == [events[-1]["type"]]
    final: dict[str, Any] = events[-1]["response"]
    assert final["status"] == events[-1]["type"].removeprefix("response.")
    assert events[0]["response"]["id"] == final["id"]
    assert events[0]["response"]["output"] == []
    items: list[dict[str, Any]] = []
    for event in events[2:-1]:
        _apply(event, items)
    if final["status"] == "failed":
        assert len(final["output"]) == len(items)
    else:
        assert all(item["done"] for item in items), "every item is closed"
        assert [item["item"] for item in items] == final["output"]
    assert len({item["id"] for item in final["output"]}) == len(final["output"])
    return final


def _apply(event: dict[str, Any], items: list[dict[str, Any]]) -> None:
    kind = event["type"]
    if kind == "response.output_item.added":
        assert event["output_index"] == len(items), "items are opened in their order"
        assert event["item"].get("status", "in_progress") == "in_progress"
        items.append(
            {
                "id": event["item"]["id"],
                "kind": event["item"]["type"],
                "parts": [],
                "texts": {},
                "done": False,
                "item": None,
            }
        )
        return
    open_ = items[event["output_index"]]
    assert not open_["done"], "nothing follows the end of an item"
    if kind == "response.output_item.done":
        assert event["item"]["id"] == open_["id"]
        open_["done"], open_["item"] = True, event["item"]
        assert all(part["done"] for part in open_["parts"])
        _check_item(event["item"], open_)
        return
    assert event["item_id"] == open_["id"]
    number = event.get("content_index", event.get("summary_index", 0))
    if kind.endswith("part.added"):
        assert number == len(open_["parts"])
        assert all(part["done"] for part in open_["parts"]), "one part is open at a time"
        open_["parts"].append({"done": False, "said": False, "annotations": [], "type": event["part"]["type"]})
    elif kind in DELTAS:
        assert event["delta"], "no delta is empty"
        open_["texts"][number] = open_["texts"].get(number, "") + event["delta"]
    elif kind == "response.output_text.annotation.added":
        assert event["annotation_index"] == len(open_["parts"][number]["annotations"])
        open_["parts"][number]["annotations"].append(event["annotation"])
    elif kind.endswith("part.done"):
        assert open_["parts"][number]["said"], "the text is complete before its part"
        open_["parts"][number]["done"] = True
    else:
        assert kind.endswith(".done"), kind
        field = DELTAS[kind.removesuffix("done") + "delta"]
        assert event[field] == open_["texts"].get(number, "")
        if open_["parts"]:
            open_["parts"][number]["said"] = True


def _check_item(item: dict[str, Any], seen: dict[str, Any]) -> None:
    """Check that an item has the content of its deltas."""
    if item["type"] in ("function_call", "custom_tool_call"):
        assert item.get("arguments", item.get("input")) == seen["texts"].get(0, "")
        return
    parts = item["content"] if item["type"] == "message" else [*item["summary"], *item.get("content", [])]
    assert [part["type"] for part in parts] == [part["type"] for part in seen["parts"]]
    for number, part in enumerate(parts):
        assert part.get("text", part.get("refusal")) == seen["texts"].get(number, "")
        assert part.get("annotations", []) == seen["parts"][number]["annotations"]
