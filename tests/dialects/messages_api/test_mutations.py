"""Requests and answers with any value in any place are translated or refused; nothing else happens."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.messages_api.answer import translate_answer
from gateway.dialects.messages_api.request import translate_request
from gateway.dialects.messages_api.stream import MessageStream
from gateway.dialects.messages_api.thinking import fit_thinking
from gateway.dialects.parameters import check_parameters, read_model
from gateway.errors import BadRequest, UpstreamFailed
from gateway.http.json_body import parse_body
from gateway.streams.relay import DONE
from providers.base import Options, Refusal
from tests.dialects.messages_api.grammar import read_message
from tests.dialects.messages_api.test_upstreams import REQUEST, SCHEMA
from tests.providers.adapting import target_for
from tests.providers.wires import CALL, answer, chunk

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, "", "x", "null", "\ud83d", [], [None], [[]], {}, {"type": "text"}, {"a": {}}, [{}],
)  # fmt: skip
WHOLE = {
    "model": "m",
    **REQUEST,
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "messages": [
        *REQUEST["messages"],
        {"role": "user", "content": [
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}, "context": "c"},
            {"type": "search_result", "title": "t", "source": "s", "content": [{"type": "text", "text": "a"}]},
        ]},
        {"role": "system", "content": [{"type": "text", "text": "a", "citations": [{"type": "x"}]}]},
    ],
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a value."""
    inner = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    return [*([path] if path else []), *(place for key, each in inner for place in places(each, (*path, key)))]


def mutated(whole: Any, random: Random) -> Any:
    """Return a copy with one or two values replaced or removed, or with an unknown key."""
    copied = copy.deepcopy(whole)
    for _ in range(random.choice((1, 1, 2))):
        *path, last = random.choice(places(copied))
        parent = copied
        for key in path:
            parent = parent[key]
        change = random.random()
        if change < 0.15 and type(parent) is dict:
            del parent[last]
        elif change < 0.25 and type(parent) is dict:
            parent[random.choice(("extra", "cache_control", "type", "citations"))] = copy.deepcopy(random.choice(VALUES))
        else:
            parent[last] = copy.deepcopy(random.choice(VALUES))
        if not places(copied):
            break
    return copied


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_any_request_is_translated_or_refused(kind: str) -> None:
    random, target, outcomes = Random(7), target_for(kind), [0, 0]
    for _ in range(800):
        source = json.dumps(mutated(WHOLE, random)).encode()
        strict = random.random() < 0.3
        try:
            parse_body(source)
            body = parse_body(translate_request(source, strict=strict).body)
            read_model(body)
            check_parameters(body)
            fit_thinking(body, target, strict=strict)
            target.kind.adapt(body, target, Options(strict=strict, stream=body.get("stream") is True))
            json.loads(target.kind.encode(body, target, Options()).body)
        except (BadRequest, Refusal):
            outcomes[1] += 1
        else:
            outcomes[0] += 1
    assert min(outcomes) > 50


THOUGHT = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "eA=="}]
PLACE = {"start_index": 0, "end_index": 2, "url": "https://a", "title": "t"}
MESSAGE = {
    "role": "assistant", "content": "hello", "reasoning_content": "hm", "refusal": None, "tool_calls": [{"index": 0, **CALL}],
    "thinking_blocks": THOUGHT, "annotations": [{"type": "url_citation", "url_citation": PLACE}],
}  # fmt: skip
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}


def test_any_answer_is_translated_or_an_upstream_error() -> None:
    random = Random(7)
    whole = answer(MESSAGE, "stop", usage=USAGE, service_tier="default", gateway={"context": {"evicted": [0]}})
    for _ in range(1_000):
        source = json.dumps(mutated(whole, random)).encode()
        try:
            message = json.loads(translate_answer(source, "m", ("x",)))
        except UpstreamFailed:
            continue
        assert type(message["id"]) is type(message["model"]) is type(message["stop_reason"]) is str
        assert all(type(count) is int for name, count in message["usage"].items() if name.endswith("tokens"))
        for block in message["content"]:
            assert block["type"] in ("text", "thinking", "redacted_thinking", "tool_use")
            assert type(block.get("input", {})) is dict
            assert type(block.get("text", "")) is str


def test_any_chunk_keeps_the_grammar_or_is_an_upstream_error() -> None:
    random = Random(7)
    for _ in range(1_000):
        chunks = [mutated(chunk(dict(MESSAGE)), random), chunk({"content": " there"}), mutated(chunk({}, "stop", usage=USAGE), random)]
        stream = MessageStream("m", ("x",))
        try:
            out = b"".join(stream.feed(b"data: " + json.dumps(each).encode() + b"\n\n") for each in chunks) + stream.feed(DONE)
        except UpstreamFailed:
            continue
        if b"event: error" not in out:
            read_message(out)
