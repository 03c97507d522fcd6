"""Requests of the Responses API at the providers: the same as the chat completion, and valid at each provider."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from providers.base import Body, Options
from tests.dialects.responses_api.grammar import to_chat, translator
from tests.providers.adapting import target_for
from tests.providers.strict import objections
from tests.providers.test_strict_servers import MODELS, SERVERS, SETTINGS

PARAMETERS = {"type": "object", "properties": {"at": {"type": "number"}}}
TURNS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be kind"},
    {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "a"}]},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at":1.5}'},
    {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "x"},
    {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "y"}]},
    {"role": "user", "content": "go on"},
]
REQUEST: dict[str, Any] = {
    "instructions": "s",
    "input": TURNS,
    "max_output_tokens": 4096,
    "tools": [{"type": "function", "name": "look", "description": "d", "parameters": PARAMETERS, "strict": False}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "stream": True,
}


def sent_to(server: str, chat: dict[str, Any]) -> dict[str, Any]:
    """Return the upstream's body for a chat completion."""
    kind = server.partition("_")[0]
    target = target_for(kind, MODELS.get(server, "example"), **SETTINGS.get(server, {}))
    body, options = Body(json.dumps(chat).encode()), Options(stream=True)
    target.kind.adapt(body, target, options)
    sent: dict[str, Any] = json.loads(target.kind.encode(body, target, options).body)
    return sent


@pytest.mark.parametrize("server", [server for server in SERVERS if server != "goodfire"])
def test_every_provider_gets_only_what_it_accepts(server: str) -> None:
    for custom in ([], [{"type": "custom", "name": "sh", "format": {"type": "text"}}]):
        request = {**REQUEST, "tools": [*REQUEST["tools"], *custom]}
        assert list(objections(server, sent_to(server, to_chat(request, strict=True)))) == []


def random_chat(random: Random) -> list[dict[str, Any]]:
    """Return a random conversation in the form of chat completions."""
    texts = ["", "a", 'é "\\\n', "😀"]
    messages: list[dict[str, Any]] = []
    for turn in range(random.randrange(1, 6)):
        role = random.choice(["user", "user", "system", "developer"])
        content: Any = random.choice(texts)
        if role == "user" and random.random() < 0.4:
            image = {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64,AA==", "detail": random.choice(["low", "auto"])},
            }
            file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}}
            content = random.sample(
                [{"type": "text", "text": random.choice(texts)}, image, file], k=random.randrange(1, 4)
            )
        messages.append({"role": role, "content": content})
        answer: dict[str, Any] = {"role": "assistant"}
        if random.random() < 0.4:
            answer["reasoning_content"] = random.choice(texts[1:])
        names = [f"c{turn}{number}" for number in range(random.choice([0, 0, 1, 3]))]
        answer["content"] = None if names and random.random() < 0.5 else random.choice(texts[1:])
        if names:
            arguments = random.choice(["{}", '{"a": "é\\n"}'])
            calls = [
                {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}} for name in names
            ]
            if random.random() < 0.3:
                calls[-1] = {"id": names[-1], "type": "custom", "custom": {"name": "sh", "input": random.choice(texts)}}  # type: ignore[dict-item]
            answer["tool_calls"] = calls
        messages.append(answer)
        messages += [{"role": "tool", "tool_call_id": name, "content": random.choice(texts)} for name in names]
    return messages


def to_items(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items of the Responses API for a conversation."""
    items: list[dict[str, Any]] = []
    customs = {call["id"] for message in messages for call in message.get("tool_calls", ()) if call["type"] == "custom"}
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            kind = "custom_tool_call_output" if message["tool_call_id"] in customs else "function_call_output"
            items.append({"type": kind, "call_id": message["tool_call_id"], "output": message["content"]})
            continue
        if "reasoning_content" in message:
            content = [{"type": "reasoning_text", "text": message["reasoning_content"]}]
            items.append({"type": "reasoning", "id": f"rs_{number}", "summary": [], "content": content})
        if message["content"] is not None:
            items.append({"role": message["role"], "content": to_parts(message["content"])})
        for call in message.get("tool_calls", ()):
            called = call[call["type"]]
            kind = "function_call" if call["type"] == "function" else "custom_tool_call"
            items.append({"type": kind, "call_id": call["id"], **called})
    return items


def to_parts(content: Any) -> Any:
    """Return content with the parts of the Responses API."""
    if type(content) is str:
        return content
    parts = []
    for part in content:
        if part["type"] == "text":
            parts.append({"type": "input_text", "text": part["text"]})
        elif part["type"] == "file":
            parts.append({"type": "input_file", **part["file"]})
        else:
            image = part["image_url"]
            parts.append({"type": "input_image", "image_url": image["url"], "detail": image["detail"]})
    return parts


def check_conversations(seed: int, count: int) -> None:
    """Check that conversations mean the same through both APIs."""
    random = Random(seed)
    for _ in range(count):
        messages = random_chat(random)
        made = translator(input=to_items(messages))
        assert to_chat({"input": to_items(messages)}, strict=True)["messages"] == messages
        assert made.adjustments == []


def test_conversation_is_the_same_through_both_apis() -> None:
    check_conversations(5, 200)


@pytest.mark.prove
def test_many_conversations_are_the_same_through_both_apis() -> None:
    check_conversations(6, 2_000)
