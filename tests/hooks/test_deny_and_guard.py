"""The deny list and the HTTP guard, without a gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.hook import DenyConfig, GuardConfig
from gateway.config.secret import Secret
from gateway.errors import BadRequest, Unavailable
from gateway.hooks.deny import DenyList
from gateway.hooks.guard import Guard
from gateway.hooks.testing import check_hook, run_request, run_text
from tests.support.search import examples

WORDS = ("nightfall", "Project X", "a.b")
REPLACE = DenyConfig(words=WORDS, action="replace")
PATTERN = DenyConfig(patterns=(r"PRJ-[0-9]{3}",), action="replace", window=16)
SIZES = (1, 2, 3, 5, 100)


def ask(text: str) -> dict[str, Any]:
    """Return a request with one text."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def test_whole_words_are_removed_in_every_case_and_every_size_of_pieces() -> None:
    text, clean = "Nightfall, nightfalls, PROJECT x! a.b axb (nightfall)", "[removed], nightfalls, [removed]! [removed] axb ([removed])"
    assert (await run_request(DenyList(REPLACE), ask(text)))["messages"][0]["content"] == clean
    for size in SIZES:
        assert await run_text(DenyList(REPLACE), text, size=size) == clean, size


async def test_patterns_are_removed_in_every_size_of_pieces() -> None:
    text = "see PRJ-123, PRJ-12 and xPRJ-9999 " + "y" * 40 + "PRJ-001"
    clean = "see [removed], PRJ-12 and x[removed]9 " + "y" * 40 + "[removed]"
    for size in SIZES:
        assert await run_text(DenyList(PATTERN), text, size=size) == clean, size


async def test_a_denied_word_refuses_the_request_and_the_answer() -> None:
    deny = DenyList(DenyConfig(words=WORDS))
    with pytest.raises(BadRequest) as refused:
        await run_request(deny, ask("all about NIGHTFALL"))
    assert (refused.value.status, refused.value.code) == (400, "content_denied")
    assert "nightfall" not in refused.value.message.lower()
    for size in SIZES:
        with pytest.raises(BadRequest):
            await run_text(deny, "it is nightfall", size=size)
    assert await run_text(deny, "it is nightfalls", size=1) == "it is nightfalls"


async def test_only_the_configured_side_is_checked() -> None:
    inputs, outputs = DenyList(DenyConfig(words=WORDS, checks=("input",))), DenyList(DenyConfig(words=WORDS, checks=("output",)))
    assert await run_text(inputs, "nightfall") == "nightfall"
    assert await run_request(outputs, ask("nightfall")) == ask("nightfall")


async def test_the_included_hooks_keep_the_rules_of_hooks() -> None:
    await check_hook(DenyList(REPLACE))
    await check_hook(DenyList(PATTERN))
    await check_hook(Guard(config(), answering({"action": "allow"})))


PARTS = (*WORDS, "night", "fall", " ", "x", ".", "Project", "İ", "PRJ-123", "PRJ-")


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.integers(1, 12))
@settings(max_examples=examples(400), deadline=None)
async def test_pieces_of_any_size_give_the_same_answer_as_the_whole(parts: list[str], size: int) -> None:
    text = "".join(parts)
    for settings_ in (REPLACE, DenyConfig(words=WORDS, patterns=(r"PRJ-[0-9]{3}",), action="replace", window=16)):
        whole = (await run_request(DenyList(settings_), ask(text)))["messages"][0]["content"]
        assert await run_text(DenyList(settings_), text, size=size) == whole


def config(**more: Any) -> GuardConfig:
    """Return the settings of a guard."""
    return GuardConfig(url=Secret("http://127.0.0.1:1/check"), **more)


class Service:
    """Answers the questions of a guard, and records them."""

    def __init__(self, *answers: Any) -> None:
        self.questions: list[dict[str, Any]] = []
        self._answers = list(answers)

    async def __call__(self, body: bytes) -> bytes:
        """Return the next answer; the last one repeats."""
        self.questions.append(json.loads(body))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def answering(answer: Any) -> Service:
    """Return a service with one answer."""
    return Service(answer)


async def test_a_question_has_the_texts_with_their_places_and_the_facts_of_the_call() -> None:
    service = answering({"action": "allow"})
    await run_request(Guard(config(), service), ask("hello"))
    (question,) = service.questions
    assert question["point"] == "request"
    assert question["texts"] == [{"path": "messages[0].content", "text": "hello", "kind": "text"}]
    assert (question["call"]["key"], question["call"]["model"]) == ("key", "m")


async def test_the_service_can_replace_and_refuse_requests() -> None:
    replace = answering({"action": "replace", "texts": {"messages[0].content": "bye", "model": "other"}})
    assert await run_request(Guard(config(), replace), ask("hello")) == ask("bye")
    with pytest.raises(BadRequest, match="not here"):
        await run_request(Guard(config(), answering({"action": "refuse", "message": "not here"})), ask("hello"))


async def test_a_stream_is_checked_by_window_with_the_text_before_it() -> None:
    service = answering({"action": "allow"})
    text = "0123456789abcdef" * 3 + "end"
    assert await run_text(Guard(config(window=16), service), text, size=5) == text
    assert [(each.get("before", ""), each["texts"][0]["text"]) for each in service.questions][:2] == [
        ("", text[:20]),
        (text[4:20], text[20:40]),
    ]
    assert len(service.questions) == 3


async def test_nothing_of_a_window_is_sent_before_the_service_has_allowed_it() -> None:
    service = Service({"action": "allow"}, {"action": "refuse"})
    with pytest.raises(BadRequest):
        await run_text(Guard(config(window=16), service), "x" * 64, size=4)
    assert len(service.questions) == 2


async def test_flagged_texts_are_refused_with_their_categories() -> None:
    flagged = {"results": [{"flagged": True, "categories": {"violence": True, "hate": False}, "category_scores": {"violence": 0.9}}]}
    service = answering(flagged)
    with pytest.raises(BadRequest, match="violence"):
        await run_request(Guard(config(format="moderations", model="mod-1"), service), ask("hello"))
    assert service.questions == [{"model": "mod-1", "input": ["hello"]}]
    passing = answering({"results": [{"flagged": False, "categories": {}}]})
    assert await run_text(Guard(config(format="moderations"), passing), "hello") == "hello"


@pytest.mark.parametrize("answer", [b"", b"no", b"[]", {"action": "perhaps"}, {"results": []}, {"results": [{}]}])
async def test_an_answer_that_cannot_be_read_is_a_failure(answer: Any) -> None:
    for format in ("webhook", "moderations"):
        with pytest.raises(Unavailable) as failed:
            await run_request(Guard(config(format=format), answering(answer)), ask("hello"))
        assert failed.value.code == "hook_failed"
