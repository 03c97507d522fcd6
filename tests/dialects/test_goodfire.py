"""Goodfire's response format: the fields that its client requires, in answers and in chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.goodfire import GoodfireStream, to_goodfire


def chunks(stream: GoodfireStream, *events: Any) -> list[dict[str, Any]]:
    """Feed events to the stream and return the chunks it passes on."""
    return [json.loads(chunk) for event in events for chunk in stream.feed("", json.dumps(event).encode())]


def test_an_answer_gets_the_required_fields() -> None:
    answer = json.loads(to_goodfire(b'{"choices": [{"message": {"content": null, "x": 1}}, {}]}'))
    assert answer["system_fingerprint"] == ""
    assert (answer["object"], answer["id"], answer["model"]) == ("chat.completion", "", "")
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert [choice["finish_reason"] for choice in answer["choices"]] == [None, None]
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "", "x": 1}
    assert answer["choices"][1]["message"] == {"role": "assistant", "content": ""}


def test_existing_fields_of_an_answer_are_kept() -> None:
    whole = {
        "id": "a", "object": "o", "model": "m", "created": 7, "system_fingerprint": "f",
        "choices": [{"index": 3, "finish_reason": "stop", "message": {"role": "tool", "content": "x"}}],
    }  # fmt: skip
    assert json.loads(to_goodfire(json.dumps(whole).encode())) == whole


def test_chunks_of_each_choice_are_numbered() -> None:
    stream = GoodfireStream(None)
    delta = {"delta": {"content": "x"}}
    passed = chunks(stream, {"choices": [delta]}, {"choices": [{**delta, "index": 1}]}, {"choices": [delta]})
    assert [(chunk["choices"][0]["index"], chunk["choices"][0]["gf_token_index"]) for chunk in passed] == [(0, 0), (1, 0), (0, 1)]
    assert all(chunk["choices"][0]["delta"] == {"role": "assistant", "content": "x"} for chunk in passed)


def test_a_chunk_without_choices_is_dropped_unless_it_has_usage() -> None:
    passed = chunks(GoodfireStream(None), {"choices": [], "x": 1}, {"choices": [], "usage": {"prompt_tokens": 1}, "x": 1})
    assert passed == [{"choices": [], "usage": {"prompt_tokens": 1}}]


def test_errors_and_the_end_pass_unchanged() -> None:
    stream = GoodfireStream(None)
    assert list(stream.feed("", b"[DONE]")) == [b"[DONE]"]
    assert list(stream.feed("", b'{"error":{"message":"x"}}')) == [b'{"error":{"message":"x"}}']


def test_a_choice_that_is_not_an_object_is_an_error() -> None:
    with pytest.raises(TypeError, match="not an object"):
        chunks(GoodfireStream(None), {"choices": ["x"]})
