"""providers.aggregate: chunks are joined into one answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.aggregate import Aggregate
from tests.support.each import each


def joined(*chunks: dict[str, Any]) -> dict[str, Any]:
    """Return the answer for these chunks."""
    aggregate = Aggregate()
    for chunk in chunks:
        aggregate.feed(json.dumps(chunk).encode())
    aggregate.feed(b"[DONE]")
    answer: dict[str, Any] = json.loads(aggregate.result())
    return answer


def chunk(delta: dict[str, Any] | None = None, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one chunk of a chat stream."""
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish, **more.pop("choice", {})}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice], **more}


def test_text_role_finish_reason_and_usage_are_joined() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    answer = joined(
        chunk({"role": "assistant", "content": None}), chunk({"content": "Hel"}), chunk({"content": "lo"}), chunk(finish="stop"),
        {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [], "usage": usage},
    )  # fmt: skip
    assert answer == {
        "id": "c1", "object": "chat.completion", "created": 7, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "logprobs": None, "finish_reason": "stop"}],
    }  # fmt: skip


def test_choices_are_separate_and_ordered() -> None:
    answer = joined(chunk({"content": "b"}, 1), chunk({"content": "a"}), chunk({"content": "B"}, 1, "length"), chunk(finish="stop"))
    assert [(choice["index"], choice["message"]["content"], choice["finish_reason"]) for choice in answer["choices"]] == [
        (0, "a", "stop"),
        (1, "bB", "length"),
    ]


def test_tool_calls_are_merged_by_index() -> None:
    second = {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}
    rest = [{"index": 0, "function": {"arguments": ":1}"}}, {"index": 1, "function": {"arguments": "{}"}}]
    answer = joined(
        chunk({"role": "assistant", "content": None, "tool_calls": [second]}),
        chunk({"tool_calls": [first]}),
        chunk({"tool_calls": rest}),
        chunk(finish="tool_calls"),
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_repeated_names_and_ids_are_not_joined() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "1"}}
    answer = joined(
        chunk({"role": "assistant", "tool_calls": [call]}), chunk({"role": "assistant", "tool_calls": [call]}, finish="tool_calls")
    )
    assert answer["choices"][0]["message"]["tool_calls"] == [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "11"}}]


def test_log_probabilities_are_appended() -> None:
    answer = joined(
        chunk({"content": "a"}, choice={"logprobs": {"content": [{"token": "a"}], "refusal": None}}),
        chunk({"content": "b"}, choice={"logprobs": {"content": [{"token": "b"}], "refusal": None}}),
        chunk(finish="stop", choice={"logprobs": None}),
    )
    assert answer["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


def test_unknown_fields_are_kept() -> None:
    answer = joined(
        chunk({"reasoning_content": "think"}, system_fingerprint="fp", extra=1),
        chunk({"reasoning_content": "ing", "content": "x"}, extra=2, choice={"stop_reason": 7}),
        chunk(finish="stop"),
    )
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "x", "reasoning_content": "thinking"}
    assert answer["choices"][0]["stop_reason"] == 7
    assert (answer["system_fingerprint"], answer["extra"]) == ("fp", 2)


def test_text_completions_keep_their_shape() -> None:
    parts = [
        {"id": "t", "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in ("a", "b")
    ]
    answer = joined(*parts, {"id": "t", "object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}]


def test_stream_without_a_choice_is_an_error() -> None:
    aggregate = Aggregate()
    aggregate.feed(b'{"choices": []}')
    with pytest.raises(ValueError, match="without an answer"):
        aggregate.result()


def test_finished_requires_a_finish_reason_for_every_choice() -> None:
    aggregate = Aggregate()
    assert not aggregate.finished
    aggregate.feed(json.dumps(chunk({"content": "a"}, 0, "stop")).encode())
    aggregate.feed(json.dumps(chunk({"content": "a"}, 1)).encode())
    assert not aggregate.finished
    aggregate.feed(json.dumps(chunk(index=1, finish="stop")).encode())
    assert aggregate.finished


@each(
    "bad", [b"", b"nonsense", b"[]", b'{"choices": [1]}', b'{"choices": [{"index": [], "delta": {}}]}', b'{"choices": 5}']
)
def test_invalid_chunk_raises_value_error(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Aggregate().feed(bad)


def test_field_that_changes_its_type_is_replaced() -> None:
    answer = joined(chunk({"content": "a"}), chunk({"content": [{"type": "text"}]}), chunk({"content": "b"}, finish="stop"))
    assert answer["choices"][0]["message"]["content"] == "b"


@given(st.text(max_size=200), st.lists(st.integers(1, 7), max_size=60))
def test_text_is_joined_whatever_the_chunk_boundaries(text: str, cuts: list[int]) -> None:
    pieces, index = [], 0
    for cut in cuts:
        pieces.append(text[index : index + cut])
        index += cut
    pieces.append(text[index:])
    answer = joined(*(chunk({"content": piece}) for piece in pieces), chunk(finish="stop"))
    assert answer["choices"][0]["message"]["content"] == text
