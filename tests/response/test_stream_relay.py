"""The relay of a stream: the decoders of its events, and the maximum number of events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.emulate.stops import StopStream
from gateway.response.stream_relay import chat_relay
from gateway.response.upstream_exchange import UpstreamExchange
from providers.base import Body
from tests.response.test_deliver import exchange_over
from tests.support.scripted import Recorder, ScriptedTransport, event

MANY = 1000


def exchange(**fields: Any) -> UpstreamExchange:
    """Return an exchange for a stream. `fields` are fields of the call."""
    return exchange_over(ScriptedTransport(), Recorder(), stream=True, **fields)[0]


@pytest.mark.parametrize(
    ("parameters", "most"),
    [
        ({}, MANY),
        ({"max_tokens": 10}, 75),
        ({"max_completion_tokens": 100}, 174),
        ({"max_tokens": 10, "n": 2}, 150),
        ({"max_tokens": 10, "prompt": "a"}, 75),
        ({"max_tokens": 10, "prompt": "a", "echo": True}, MANY),
    ],
)
async def test_a_stream_may_have_a_tenth_and_64_more_events_than_its_output_limit(parameters: dict[str, Any], most: int) -> None:
    relay, _ = chat_relay(exchange(), Body(json.dumps(parameters).encode()), usage_asked=False)
    for count in range(MANY):
        relay.feed(event({"content": str(count)}))
    assert relay.chunks == min(most + 1, MANY)
    assert relay.done is (most < MANY)


async def test_only_a_call_with_stop_strings_has_a_decoder_that_ends_the_stream_at_one() -> None:
    assert chat_relay(exchange(), Body(b"{}"), usage_asked=False)[1] is None
    assert isinstance(chat_relay(exchange(stops=("END",)), Body(b"{}"), usage_asked=False)[1], StopStream)
