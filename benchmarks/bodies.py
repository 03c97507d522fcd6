"""Request bodies of chat completions, as SDKs write them: a system message, five turns, and a space after each colon and comma."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pydoc_data.topics import topics
from typing import Any

NUMBER = "@@@@@@@@@@"
"""The load generator replaces it with the number of the request, so that no two requests are the same."""
BODY_BYTES = 2000
CHAT_EVENTS = 51
"""Number of events in the stream of one chat completion."""
SYSTEM = "You are a helpful assistant. Answer in the language of the question, and say so if you do not know the answer."
TURNS = (
    "What does a load balancer do?",
    "It distributes requests among several servers, so that none of them becomes a bottleneck and clients do not notice a failure.",
    "How does it notice a failure?",
    "It sends a small request to each server every few seconds. A server that does not answer gets no requests until it does.",
)
MANUAL = "\n".join(topics.values())
"""English text: Python's manual, as `help()` shows it. It has 465 kB."""

Chat = dict[str, Any]


def chat(stream: bool = False, text: str = "", model: str = "bench", size: int = BODY_BYTES) -> Chat:
    """Return a chat completion whose body has `size` bytes. `text` contains the pacing commands for the mock."""
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": SYSTEM}]
    messages += [{"role": roles[at % 2], "content": turn} for at, turn in enumerate(TURNS)]
    messages.append({"role": "user", "content": ""})
    body: Chat = {"model": model, "messages": messages, "temperature": 0.7, "top_p": 0.9, "max_tokens": 256}
    if stream:
        body["stream"] = True
    question = f"{NUMBER} {text} "
    messages[-1]["content"] = question + prose(size - len(encode(body)) - len(question))
    return body


def encode(body: Chat) -> bytes:
    """Return the bytes of a body, with spaces."""
    return json.dumps(body).encode()


def request_body(stream: bool, text: str = "", model: str = "bench", size: int = BODY_BYTES) -> bytes:
    """Return the bytes of `chat`."""
    return encode(chat(stream, text, model, size))


def prose(size: int) -> str:
    """Return a text that takes `size` bytes in JSON, without characters that JSON escapes."""
    plain = _plain_manual()
    return (plain * (size // len(plain) + 1))[:size]


@functools.cache
def _plain_manual() -> str:
    """Return the ASCII part of the manual, with a space in place of each character except letters, digits and usual punctuation."""
    return "".join(letter if letter.isalnum() or letter in " .,:;()" else " " for letter in MANUAL if letter.isascii())


def with_tools(stream: bool, count: int) -> bytes:
    """Return a chat completion with this number of tools, whose schemas have five parameters each."""
    return encode({**chat(stream), "tools": list(_tools(count)), "tool_choice": "auto"})


def _tools(count: int) -> Iterator[Chat]:
    for at in range(count):
        properties = {
            f"argument_{name}": {"type": "string", "description": f"The {name} of the order that the function {at} changes."}
            for name in ("number", "customer", "date", "article", "reason")
        }
        schema = {"type": "object", "properties": properties, "required": ["argument_number"], "additionalProperties": False}
        function = {"name": f"change_order_{at}", "description": f"Change the orders of department {at}.", "parameters": schema}
        yield {"type": "function", "function": function}


def agent_turn(calls: int, size: int) -> bytes:
    """Return the next turn of an agent with 20 tools and this number of past calls, whose results have `size` characters each.

    The last result differs in every request.
    """
    text = prose(calls * size)
    messages: list[Chat] = [{"role": "system", "content": text[:4000]}, {"role": "user", "content": TURNS[0]}]
    for at in range(calls):
        arguments = json.dumps({"argument_number": f"{at}", "argument_reason": TURNS[at % len(TURNS)]})
        call = {"id": f"call_{at}", "type": "function", "function": {"name": f"change_order_{at % 20}", "arguments": arguments}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{at}", "content": text[at * size : (at + 1) * size]})
    messages[-1]["content"] = f"{NUMBER} {messages[-1]['content']}"
    return encode({"model": "bench", "messages": messages, "tools": list(_tools(20)), "tool_choice": "auto", "max_tokens": 256})


def conversation(model: str, messages: int, size: int, new: bool) -> bytes:
    """Return a conversation of many messages with `size` characters each.

    The last message differs in every request. With `new`, all messages differ.
    """
    roles = ("user", "assistant")
    text = prose(messages * size)
    turns = [{"role": roles[at % 2], "content": text[at * size : (at + 1) * size]} for at in range(messages - 1)]
    turns.append({"role": "user", "content": text[-size:]})
    for at, turn in enumerate(turns):
        if new or at == len(turns) - 1:
            turn["content"] = f"{NUMBER} {turn['content']}"
    return encode({"model": model, "messages": [{"role": "system", "content": SYSTEM}, *turns], "max_tokens": 256})
