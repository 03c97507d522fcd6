"""The masker: the values that it recognizes, and the exact exchange of masks and values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.hook import MASK_KINDS, MaskConfig, MaskKind
from gateway.hooks.masker import Masker
from gateway.hooks.recognizers import Recognizer
from gateway.hooks.testing import check_hook, run_events, run_request, run_text
from tests.hooks.echo import STREAMS, deltas, read_events
from tests.support.each import each
from tests.support.search import examples

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
VALUES: list[tuple[MaskKind, str]] = [
    ("email", "ada@example.org"), ("email", "o.b+tag@mail.example.co.uk"), ("email", "jörg@bücher.example"),
    ("iban", "DE89 3704 0044 0532 0130 00"), ("iban", "GB82WEST12345698765432"), ("iban", "nl91 abna 0417 1643 00"),
    ("card", "4111111111111111"), ("card", "5500-0000-0000-0004"), ("card", "3782 822463 10005"),
    ("ip", "203.0.113.7"), ("ip", "2001:db8::8a2e:370:7334"),
    ("phone", "+49 30 901820"), ("phone", "+1 (415) 555-2671"), ("phone", "(415) 555-2671"), ("phone", "030 / 901820-12"),
    ("phone", "06 12 34 56 78"),
    ("api_key", "sk-proj-abcdefghijklmnopqrstuv"), ("api_key", "AKIAIOSFODNN7EXAMPLE"), ("api_key", "ghp_" + "a1" * 18),
    ("api_key", "AIza" + "b" * 35), ("api_key", "xoxb-123456789012-abcdef"), ("jwt", JWT),
]  # fmt: skip
ORDINARY = (
    "gpt-4o-2024-08-06", "550e8400-e29b-41d4-a716-446655440000", "call_4111111111111111", "1234567890123456", "12:30:45", "127.0.0.1",
    "2026-11-29T16:50:31Z", "1.2.3", "a@b", "10,000,000.00", "v4.10.0", "sk-short", "DE00370400440532013000", "0.1234567890123",
    "4111111111111112", "std::vector", "[1, 2, 3]", "x" * 5000, "1" * 400, "::", "12.345.678",
)  # fmt: skip


def ask(text: str) -> dict[str, Any]:
    """Return a request with one text."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def masked(text: str) -> str:
    """Return a text as the upstream gets it."""
    content: str = (await run_request(Masker(MaskConfig()), ask(text)))["messages"][0]["content"]
    return content


@each(("kind", "value"), VALUES)
def test_a_value_is_recognized(kind: MaskKind, value: str) -> None:
    for text in (value, f"It is {value}.", f"({value})", f'"{value}"', f"a: {value}, b", f"{value} {value}"):
        found = Recognizer(MASK_KINDS).find(text)
        assert {(each.kind, text[each.start : each.end]) for each in found} == {(kind, value)}, text


@each("text", ORDINARY)
def test_an_ordinary_text_is_not_masked(text: str) -> None:
    assert Recognizer(MASK_KINDS).find(text) == []


def test_a_value_right_after_another_is_recognized() -> None:
    text = "DE89370400440532013000 NL91ABNA0417164300 4111111111111111 5500000000000004 12"
    kinds = [each.kind for each in Recognizer(MASK_KINDS).find(text)]
    assert kinds == ["iban", "iban", "card", "card"]


async def test_equal_values_have_one_mask_and_numbers_follow_the_order() -> None:
    assert await masked("a@x.org b@x.org a@x.org 203.0.113.7") == "[EMAIL_1] [EMAIL_2] [EMAIL_1] [IP_1]"


async def test_a_growing_conversation_keeps_its_masks() -> None:
    first, longer = await masked("a@x.org, b@x.org"), await masked("a@x.org, b@x.org, c@x.org, a@x.org")
    assert longer.startswith(first)


async def test_a_mask_that_the_request_contains_is_not_used() -> None:
    text = "[EMAIL_1] is not a@x.org"
    assert await masked(text) == "[EMAIL_1] is not [EMAIL_2]"
    assert await run_text(Masker(MaskConfig()), "[EMAIL_1] or [EMAIL_2]", request=ask(text)) == "[EMAIL_1] or a@x.org"


async def test_masks_stay_in_the_answer_if_they_are_not_restored() -> None:
    assert await run_text(Masker(MaskConfig(restore=False)), "[EMAIL_1]", request=ask("a@x.org")) == "[EMAIL_1]"


async def test_a_large_request_is_masked_as_well() -> None:
    text = "word " * 20_000
    assert await masked(text + "a@x.org") == text + "[EMAIL_1]"


async def test_media_and_names_of_models_are_not_changed() -> None:
    image = "data:image/png;base64," + "4111111111111111" * 8
    request = {"model": "a@x.org", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}]}
    assert await run_request(Masker(MaskConfig()), request) == request


async def test_unchanged_values_keep_their_bytes() -> None:
    request = {"model": "m", "temperature": 0.30000000000000004, "messages": [{"role": "user", "content": "a@x.org"}], "seed": 2**53 + 1}
    changed = await run_request(Masker(MaskConfig()), request)
    assert {**changed, "messages": None} == {**request, "messages": None}


async def test_the_masker_keeps_the_rules_of_hooks() -> None:
    await check_hook(Masker(MaskConfig()))


@given(
    st.lists(st.one_of(st.sampled_from([value for _, value in VALUES]), st.text(max_size=12), st.just("[EMAIL_1]"), st.just("["))),
    st.integers(1, 9),
)
@settings(max_examples=examples(400), deadline=None)
async def test_a_masked_text_is_restored_exactly_for_every_size_of_pieces(parts: list[str], size: int) -> None:
    text = " ; ".join(parts)
    sent = await masked(text)
    found = Recognizer(MASK_KINDS).find(text)
    assert not [each for each in found if text[each.start : each.end] in sent]
    assert await run_text(Masker(MaskConfig()), sent, size=size, request=ask(text)) == text




@pytest.mark.parametrize("api", STREAMS)
@given(st.integers(1, 12), st.integers(1, 400))
@settings(max_examples=examples(60), deadline=None)
async def test_a_stream_is_restored_for_every_size_of_events_and_of_reads(api: str, size: int, read: int) -> None:
    request = ask("a@x.org and 4111 1111 1111 1111")
    said, restored = "To [EMAIL_1], with [CARD_1][EMAIL_1] and [EMAIL_9", "To a@x.org, with 4111 1111 1111 1111a@x.org and [EMAIL_9"
    given_events = b"".join(STREAMS[api](said, size))
    sent = await run_events(Masker(MaskConfig()), given_events, size=read, request=request)
    assert deltas(sent) == deltas(b"".join(STREAMS[api](restored, size)))
    assert b"[EMAIL_1]" not in sent.replace(b'"EMAIL_9', b"")
    numbers = [event["sequence_number"] for event in read_events(sent) if "sequence_number" in event]
    assert numbers == list(range(len(numbers)))
