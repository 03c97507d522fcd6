"""Chat answers as text completions. tests/flows/test_completions_flow.py has the requests and whole calls."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.completions import TextStream, to_text_completion

PIECES = st.lists(st.text(max_size=5), max_size=8)


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    """Return a chunk of a chat, without choices if there is no delta."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": choices, **more}).encode()


@given(PIECES)
def test_stream_of_a_chat_and_its_answer_have_the_same_text(pieces: list[str]) -> None:
    stream = TextStream(None)
    sent = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces), chunk({}, "length")]
    chunks = [json.loads(out) for data in sent for out in stream.feed("", data)]
    answer = {"choices": [{"index": 0, "message": {"content": "".join(pieces)}, "finish_reason": "length"}]}
    (whole,) = json.loads(to_text_completion(json.dumps(answer).encode()))["choices"]
    assert "".join(choice["text"] for each in chunks for choice in each["choices"]) == whole["text"] == "".join(pieces)
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "length"


def test_text_completions_errors_and_the_end_keep_their_bytes() -> None:
    stream = TextStream(None)
    for data in (b'{"object":"text_completion","choices":[{"text":"a \\"delta\\"","index":0}]}', b'{"error":{"message":"x"}}', b"[DONE]"):
        assert list(stream.feed("", data)) == [data]
    answer = b'{"object":"text_completion", "choices":[{"text":"a","index":0,"logprobs":{"tokens":["a"]}}]}'
    assert to_text_completion(answer) is answer


def test_usage_of_a_chat_stream_is_kept() -> None:
    (data,) = TextStream(None).feed("", chunk(None, usage={"total_tokens": 3}))
    assert json.loads(data) == {"id": "c", "object": "text_completion", "choices": [], "usage": {"total_tokens": 3}}


def test_message_without_text_is_an_empty_text() -> None:
    for message in ({"content": None}, {}, {"content": [{"type": "text"}]}):
        answer = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        assert json.loads(to_text_completion(answer))["choices"][0]["text"] == ""
