"""Scripted upstreams of OpenAI's Responses API and of Anthropic's Messages API that make an agent call tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tests.clients.agent_script import TASK, Step, sum_in
from tests.faults.behaviours import canned
from tests.faults.upstream_server import Exchange

RESPONSE_USAGE = {
    "input_tokens": 90, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 95,
}  # fmt: skip
MESSAGE_USAGE = {"input_tokens": 50, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0, "output_tokens": 5}


class NativeScript:
    """Answers the requests of one agent: a conversation about the task gets one step after another."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    def next(self, fields: dict[str, Any], conversation: Any, results: Sequence[Any]) -> tuple[str, Step | None, int]:
        """Return the text of the answer, the call of a tool or None, and the number of the step."""
        if TASK not in json.dumps(conversation) or not fields.get("tools"):
            return "A task", None, 0  # agents also ask for titles and summaries
        if len(results) < len(self._steps):
            return "Working.", self._steps[len(results)], len(results)
        return f"Finished: the file has {sum_in(results[-1:])}.", None, len(results)


class ResponsesScript(NativeScript):
    """Answers in the format of OpenAI's Responses API."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        fields = exchange.request.json
        items = fields["input"] if isinstance(fields["input"], list) else []
        results = [item["output"] for item in items if str(item.get("type", "")).endswith("_call_output")]
        text, step, number = self.next(fields, fields["input"], results)
        message = {
            "type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }  # fmt: skip
        output: list[dict[str, Any]] = [message]
        if step is not None:
            output.append({
                "type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": step.tool,
                "arguments": json.dumps(step.arguments), "status": "completed",
            })  # fmt: skip
        response = {
            "id": f"resp_{number}", "object": "response", "created_at": 1, "model": "o4-mini", "status": "completed",
            "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "parallel_tool_calls": True,
            "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "output": output, "usage": RESPONSE_USAGE,
        }  # fmt: skip
        if not fields.get("stream"):
            await canned(json.dumps(response).encode())(exchange)
            return
        await _send_events(exchange, ({**event, "sequence_number": at} for at, event in enumerate(_response_events(response))))


class MessagesScript(NativeScript):
    """Answers in the format of Anthropic's Messages API."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        fields = exchange.request.json
        blocks = [block for message in fields["messages"] if isinstance(message["content"], list) for block in message["content"]]
        results = [block for block in blocks if block["type"] == "tool_result"]
        text, step, number = self.next(fields, fields["messages"], results)
        await self.send(exchange, text, step, number)

    async def send(self, exchange: Exchange, text: str, step: Step | None, number: int) -> None:
        """Send an answer."""
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if step is not None:
            content.append({"type": "tool_use", "id": f"toolu_{number}", "name": step.tool, "input": step.arguments})
        message = {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude-opus-4-6", "content": content,
            "stop_reason": "tool_use" if step else "end_turn", "stop_sequence": None, "usage": MESSAGE_USAGE,
        }  # fmt: skip
        if not exchange.request.json.get("stream"):
            await canned(json.dumps(message).encode())(exchange)
            return
        await _send_events(exchange, _message_events(message))


class NativeAiderScript(MessagesScript):
    """Answers with an edit of a file until the request contains the output of the command, then with this output."""

    def __init__(self, edit: str) -> None:
        super().__init__(())
        self._edit = edit

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        found = sum_in(exchange.request.json["messages"][-1:])
        await self.send(exchange, self._edit if found == "no sum" else f"Finished: the file has {found}.", None, 0)


def _response_events(response: dict[str, Any]) -> Iterable[dict[str, Any]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        where = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            (part,) = item["content"]
            yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress", "content": []}}
            where["content_index"] = 0
            yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}
            for piece in _halves(part["text"]):
                yield {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
            yield {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **where, "part": part}
        else:
            yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress", "arguments": ""}}
            for piece in _halves(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
            yield {"type": "response.function_call_arguments.done", **where, "arguments": item["arguments"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}


def _message_events(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    begun = {**message, "content": [], "stop_reason": None, "usage": {**MESSAGE_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        is_text = block["type"] == "text"
        text, empty = (block["text"], {"text": ""}) if is_text else (json.dumps(block["input"]), {"input": {}})
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for piece in _halves(text):
            delta = {"type": "text_delta", "text": piece} if is_text else {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def _halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


async def _send_events(exchange: Exchange, events: Iterable[dict[str, Any]]) -> None:
    """Send named events as a stream."""
    await exchange.start_stream()
    for event in events:
        await exchange.chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    await exchange.chunk(b"")
