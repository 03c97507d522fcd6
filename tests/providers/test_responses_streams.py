"""Streams of the Responses API keep the grammar of docs/streams.md, however their bytes arrive."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import Relay
from providers.base import Body, Options, Usage
from providers.usage import read_usage
from tests.providers.adapting import target_for
from tests.providers.stream_grammar import read_stream
from tests.providers.test_responses_answers import ANSWERS, completion, events_of
from tests.providers.test_stream_grammar import random_pieces
from tests.support.search import FULL

TARGET = target_for("openai", "gpt-5.6")
FUNCTIONS_ONLY = [(name, value) for name, value in ANSWERS if "custom_tool_call" not in str(value)]


def adapted_options() -> Options:
    """Return the options of a call that is sent through the Responses API."""
    options = Options(stream=True)
    body = Body(b'{"messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f"}}],"stream":true}')
    TARGET.kind.adapt(body, TARGET, options)
    return options


OPTIONS = adapted_options()


def relay(pieces: list[bytes]) -> tuple[bytes, Usage | None]:
    """Return the events that the caller gets before [DONE], and the usage that is booked."""
    state = Relay(
        decoder=TARGET.kind.decoder(TARGET, OPTIONS),
        usage_asked=True,
        read_usage=read_usage,
        fail=lambda data: inband_failure(TARGET, data),
        choices=1,
    )
    sent = b"".join([state.feed(piece) for piece in pieces])
    return sent + state.end(), state.usage


def wire_of(value: dict[str, Any], random: Random) -> bytes:
    """Return the bytes of the response's stream, with or without names of events and comments."""
    named, end = random.random() < 0.8, random.choice(["\n", "\r\n"])
    out = ""
    for event in events_of(value, pieces=random.random() < 0.7):
        out += f": keepalive{end}{end}" if random.random() < 0.1 else ""
        out += (f"event: {event['type']}{end}" if named else "") + f"data: {json.dumps(event)}{end}{end}"
    return out.encode()


def check(value: dict[str, Any], pieces: list[bytes]) -> None:
    """Check the grammar and the assembled answer against the JSON answer."""
    sent, booked = relay(pieces)
    messages, shown = read_stream(sent)
    answer = completion(value)
    expected = answer["choices"][0]["message"]
    assert list(messages) == [0]
    assert messages[0].text == (expected["content"] or "")
    assert messages[0].reasoning == expected.get("reasoning_content", "")
    assert [name for name, _ in messages[0].parsed_calls()] == [call["function"]["name"] for call in expected.get("tool_calls", ())]
    assert messages[0].finish == answer["choices"][0]["finish_reason"]
    assert shown == answer["usage"]
    assert booked is not None
    assert (booked.prompt_tokens, booked.cached_tokens, booked.reasoning_tokens) == (9, 4, 3)


def test_streams_keep_the_grammar_at_random_chunkings() -> None:
    random = Random(13)
    for number in range(20_000 if FULL else len(FUNCTIONS_ONLY) * 12):
        name, value = FUNCTIONS_ONLY[number % len(FUNCTIONS_ONLY)]
        pieces = random_pieces(wire_of(value, random), random)
        try:
            check(value, pieces)
        except Exception as error:
            raise AssertionError(f"{name}: {pieces}") from error
