"""The number of turns is checked before any turn is translated."""

from __future__ import annotations

import json

import pytest

from gateway.dialects.messages import MAX_MESSAGES
from gateway.dialects.messages_api.request import translate_request
from gateway.errors import BadRequest
from tests.support.calls import calls_of


def source_of(count: int) -> bytes:
    """Return a Messages request with this many turns."""
    return json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}] * count}).encode()


def test_conversation_with_too_many_turns_is_refused_before_it_is_translated() -> None:
    translate_request(source_of(MAX_MESSAGES), strict=False)

    def refused() -> None:
        with pytest.raises(BadRequest, match="at most 10000 messages, not 10001"):
            translate_request(source_of(MAX_MESSAGES + 1), strict=False)

    assert calls_of(refused) < 1000
