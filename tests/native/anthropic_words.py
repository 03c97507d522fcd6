"""Anthropic's fake with an answer for each text that `tests/clients/programs/anthropic_messages.py` sends."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.faults.behaviours import play
from tests.faults.upstream_wire import FIN, Exchange
from tests.native import anthropic_fake as fake

USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 5}
ERRORS = {"fail with 429": ("rate_limit_error", 429), "fail with 503": ("overloaded_error", 529)}


async def answer_in_words(exchange: Exchange) -> None:
    """Answer "w0 w1 ...", or as the text of the request specifies, as JSON or as a stream."""
    request = exchange.request
    text = request.body.decode()
    wrong = fake.problem(request)
    if wrong is not None:
        await fake.refused("invalid_request_error", wrong, 400)(exchange)
        return
    for words, (kind, code) in ERRORS.items():
        if words in text:
            await fake.refused(kind, "scripted", code)(exchange)
            return
    content, reason, stop = _content(request.json, text)
    message = {**fake.MESSAGE, "content": content, "stop_reason": reason, "stop_sequence": stop, "usage": USAGE}
    delay = re.search(r"#delay=(\d+)ms#", text)
    events = (
        fake.event("message_start", message={**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}),
        *_blocks(content),
        fake.event("message_delta", delta={"stop_reason": reason, "stop_sequence": stop}, usage=USAGE),
        fake.STOP,
    )
    if "break the stream" in text:
        await exchange.start_stream()
        await exchange.chunk(b"".join(events[:4]))
        await play(0.1, FIN)(exchange)
    elif delay is not None:
        await exchange.start_stream()
        for each in events:
            await exchange.chunk(each)
            await exchange.sleep(int(delay[1]) / 1000)
    else:
        await fake.speaks_messages(json.dumps(message).encode(), events)(exchange)


def _content(body: dict[str, Any], text: str) -> tuple[list[dict[str, Any]], str, str | None]:
    """Return the content, the stop reason and the stop sequence."""
    if "think first" in text:
        thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
        return [thought, {"type": "text", "text": "Yes."}], "end_turn", None
    if "use the tool" in text and "sunny" not in text:
        called = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Bern"}}
        return [{"type": "text", "text": "Sure."}, called], "tool_use", None
    asked = re.search(r"#chunks=(\d+)#", text)
    words = [f"w{number} " for number in range(int(asked[1]) if asked else 5)]
    for stop in body.get("stop_sequences") or ():
        if stop in "".join(words):
            return [{"type": "text", "text": "".join(words).partition(stop)[0]}], "stop_sequence", stop
    reason = "max_tokens" if len(words) > body["max_tokens"] else "end_turn"
    return [{"type": "text", "text": "".join(words[: body["max_tokens"]] if "#delay" not in text else words)}], reason, None


def _blocks(content: list[dict[str, Any]]) -> list[bytes]:
    """Return the events of text, thinking and tool calls, in pieces."""
    events = []
    for index, block in enumerate(content):
        if block["type"] == "text":
            opened, deltas = {"type": "text", "text": ""}, [("text_delta", "text", f"{word} ") for word in block["text"].split()]
            deltas = deltas if block["text"].endswith(" ") else [("text_delta", "text", block["text"])]
        elif block["type"] == "thinking":
            opened = {**block, "thinking": "", "signature": ""}
            deltas = [("thinking_delta", "thinking", block["thinking"]), ("signature_delta", "signature", block["signature"])]
        else:
            opened, whole = {**block, "input": {}}, json.dumps(block["input"])
            deltas = [("input_json_delta", "partial_json", piece) for piece in (whole[:5], whole[5:])]
        events.append(fake.event("content_block_start", index=index, content_block=opened))
        for kind, name, piece in deltas:
            events.append(fake.event("content_block_delta", index=index, delta={"type": kind, name: piece}))
        events.append(fake.event("content_block_stop", index=index))
    return events
