"""Finish reasons of vendors in OpenAI's words."""

from __future__ import annotations

import pytest

from providers.finish_reasons import FAILED_REASONS, FINISH_REASONS, OPENAI_REASONS, FailedFinishError, finish_reason
from tests.support.each import each


@each("reason", sorted(OPENAI_REASONS))
def test_openais_words_are_kept(reason: str) -> None:
    assert finish_reason(reason) == finish_reason(reason.upper()) == reason


def test_every_listed_word_has_a_word_of_openai() -> None:
    assert set(FINISH_REASONS.values()) <= OPENAI_REASONS | {None}
    assert all(finish_reason(word.upper()) == reason for word, reason in FINISH_REASONS.items())
    assert FAILED_REASONS.isdisjoint(FINISH_REASONS)


@each("word", [*sorted(FAILED_REASONS), "function_call_filter: MALFORMED_FUNCTION_CALL"])
def test_words_of_failures_are_errors(word: str) -> None:
    with pytest.raises(FailedFinishError):
        finish_reason(word.upper())


@each("value", [None, 3, {}, ""])
def test_value_that_is_no_reason_is_none(value: object) -> None:
    assert finish_reason(value) is None


def test_unknown_word_ends_the_answer() -> None:
    assert finish_reason("brand_new") == "stop"
    assert finish_reason("content_filter: BRAND_NEW") == "content_filter"


@each(
    ("word", "reason"),
    [
        ("IMAGE_PROHIBITED_CONTENT", "content_filter"), ("brand_new_safety", "content_filter"), ("output-blocked", "content_filter"),
        ("MAX_OUTPUT_LENGTH", "length"), ("context_limit", "length"), ("tool-calls", "tool_calls"), ("FUNCTION_CALLS", "tool_calls"),
        ("paused", "stop"),
    ],
)  # fmt: skip
def test_an_unlisted_word_counts_as_its_parts(word: str, reason: str) -> None:
    assert finish_reason(word) == reason


@each("word", ["internal_error", "MALFORMED_BRAND_NEW", "generation-failed", "user_cancelled"])
def test_an_unlisted_word_of_a_failure_is_an_error(word: str) -> None:
    with pytest.raises(FailedFinishError):
        finish_reason(word)
