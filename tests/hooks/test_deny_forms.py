"""The forms of a text in which the deny list finds its words: white space, Unicode, escapes of JSON, and pieces of any size."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.hook import DenyConfig
from gateway.errors import BadRequest
from gateway.hooks.background import in_thread
from gateway.hooks.deny import MAX_SPACES, DenyList, WordList
from gateway.hooks.load import loaded
from gateway.hooks.run import HookSet, Pieces
from gateway.hooks.testing import FACTS, check_hook, run_events, run_request, run_text
from gateway.hooks.views import readings
from gateway.metrics import Metrics
from tests.hooks.echo import chat_stream, message_stream, response_stream
from tests.support.search import examples

WORDS = ("nightfall", "Project X", "café", "Straße", "夜幕 行动", "ガス", "각", "a.b")
REPLACE = DenyConfig(words=WORDS, action="replace")
FOUND = (
    "NIGHTFALL", "ｎｉｇｈｔｆａｌｌ", "Ｎｉｇｈｔfall",
    "night\u00adfall", "n\u200bightfall", "𝐧𝐢𝐠𝐡𝐭𝐟𝐚𝐥𝐥", "project\u00a0x", "project  x", "project\n\tx",
    "Project\r\n\r\nX", "project\u3000Ｘ", "project\u2028x", "cafe\u0301", "CAFÉ", "STRASSE", "straße", "夜幕\u3000行动", "ｶﾞｽ", "각", "A.B",
    "project" + " " * MAX_SPACES + "x",
)  # fmt: skip
ORDINARY = (
    "nightfalls", "xnightfall", "nightfall_", "project", "project-x", "projectx", "project xy", "cafe", "axb", "gas", "ガ ス", "夜幕",
)  # fmt: skip


def ask(text: str) -> dict[str, Any]:
    """Return a request with one text."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def sent(text: str, config: DenyConfig = REPLACE) -> str:
    """Return a text of a request as the upstream gets it."""
    content: str = (await run_request(DenyList(config), ask(text)))["messages"][0]["content"]
    return content


@pytest.mark.parametrize("form", FOUND)
async def test_a_word_is_found_in_each_form_and_nothing_else_changes(form: str) -> None:
    for before, after in (("", ""), ("é ", " é"), ("ﬁ\n", "\nﬁ"), ('{"a": "\\n', '\\u00e9"}'), ("关于", "的"), ("“", "”!")):
        if after.startswith("\\u00e9") and form[-1] not in "动ス":
            after = '\\"}'
        assert await sent(before + form + after) == f"{before}[removed]{after}"
        for size in (1, 2, 3, 100):
            assert await run_text(DenyList(REPLACE), before + form + after, size=size) == f"{before}[removed]{after}", size


@pytest.mark.parametrize("text", ORDINARY)
async def test_other_words_are_not_changed(text: str) -> None:
    for size in (1, 2, 100):
        assert await run_text(DenyList(REPLACE), f"a {text} b", size=size) == f"a {text} b"
    assert await sent(f"a {text} b") == f"a {text} b"


@pytest.mark.parametrize("written", [
    '{"a": "nigh\\u0074fall"}', '{"a": "\\nnightfall\\n"}', '{"a": "project\\u00a0x"}', '{"a": "project\\n\\nx"}', '{"a": "caf\\u00e9"}',
    '{"a": "cafe\\u0301"}', '{"a": "\\ud835\\udc27ightfall"}', json.dumps({"a": json.dumps({"b": "\u00e9\nnightfall\n"})}),
    json.dumps({"a": json.dumps({"b": json.dumps("\nnightfall")})}),
])  # fmt: skip
async def test_escapes_of_json_hide_no_word(written: str) -> None:
    deny = DenyList(DenyConfig(words=WORDS))
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": written[:-1]}}
    for text in (written, written[:-1], f"Result: {written}"):
        with pytest.raises(BadRequest):
            await run_request(deny, ask(text))
    with pytest.raises(BadRequest):
        await run_request(deny, {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]})
    for size in (1, 2, 3, 5):
        for stream in (chat_stream("", written, size, 1), message_stream("", written, size), response_stream("", written, size)):
            with pytest.raises(BadRequest):
                await run_events(deny, b"".join(stream), size=50)


PARTS = (
    *FOUND[:-1], *ORDINARY, "night", "fall", "project", "x", " ", "\u00a0", "\n", "\\n", "\\", "\\\\", "\\u00e9", "\\u006e",
    "\\ud835", "\\udc27",
    "ightfall", "\\u0066all", "\\\\u0066all", "u0066", "e", "\u0301", "é", "ﾞ", "ｶ", "\u200b", "İ", "ß", "s", "1", "_", "中", ".",
)  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.integers(1, 9))
@settings(max_examples=examples(1500), deadline=None)
async def test_pieces_of_any_size_give_the_same_text_as_the_whole(parts: list[str], size: int) -> None:
    text = "".join(parts)
    assert await run_text(DenyList(REPLACE), text, size=size) == await sent(text)


CODES = ("PRJ-123", "PRJ\\u002d123", "\\u0050RJ-", "123", "\\\\u0031", "\\u0032", "23", "\\n", "\\", " ", "PRJ", "-", "nightfall", "x" * 9)


@given(st.lists(st.sampled_from(CODES), max_size=12), st.integers(1, 9))
@settings(max_examples=examples(800), deadline=None)
async def test_patterns_match_without_escapes_in_pieces_of_any_size(parts: list[str], size: int) -> None:
    text = "".join(parts)
    for words in ((), ("nightfall",)):
        config = DenyConfig(words=words, patterns=(r"PRJ-[0-9]{3}",), action="replace", window=16)
        whole = await sent(text, config)
        assert await run_text(DenyList(config), text, size=size) == whole
        assert "PRJ-123" not in whole
        assert "PRJ\\u002d123" not in whole


@given(st.lists(st.sampled_from(PARTS), max_size=12))
@settings(max_examples=examples(400), deadline=None)
async def test_the_places_of_words_are_exact(parts: list[str]) -> None:
    text = "".join(parts)
    for start, end in WordList(["nightfall"]).find(text, is_open=False):
        assert 0 <= start < end <= len(text)
        place = text[start:end]
        while "\\" in place:
            place = json.loads(f'"{place}"')
        shown = "".join(char for char in unicodedata.normalize("NFKC", place).casefold() if char not in "\u00ad\u200b")
        assert shown == "nightfall"


async def test_the_rules_of_hooks_are_kept_in_every_form() -> None:
    await check_hook(DenyList(REPLACE), [*FOUND, *ORDINARY, "\\", "\\u", "\\u00", '{"a": "\\u00e9\\n"}', "e\u0301" * 50])


async def test_a_word_in_the_middle_of_a_long_text_is_found_once() -> None:
    for before in (30_000, 32_760, 32_768, 49_140, 65_530, 70_000):
        text = "x" * before + " nightfall " + "y" * 40_000
        assert await sent(text) == "x" * before + " [removed] " + "y" * 40_000


def test_many_words_with_one_beginning_are_found() -> None:
    words = [f"word{number} of {number * 7919}" for number in range(2000)]
    text = " ".join([*words, *("word of wor word1 of 1" for _ in words)])
    assert [text[start:end] for start, end in WordList(words).find(text, is_open=False)] == words
    nested = ["a" * length for length in range(1, 300)]
    for length in (1, 39, 40, 41, 299):
        assert [*WordList(nested).find("a" * length + " b", is_open=False)] == [(0, length)]


TOUCHING = ("\t", "ext", "text", "\n", "ightfall", "\\", '"', "é", "u00e9", "\U0001f600", " ", "a")


@given(st.lists(st.sampled_from(TOUCHING), max_size=12), st.integers(1, 9))
@settings(max_examples=examples(300), deadline=None)
async def test_json_stays_valid_if_a_word_begins_or_ends_in_an_escape(parts: list[str], size: int) -> None:
    deny = DenyList(DenyConfig(words=("text", "nightfall", "u00e9", "d83d", "a\\"), action="replace"))
    arguments = json.dumps({"a": "".join(parts)})
    removed = await run_text(deny, arguments, size=size)
    json.loads(removed)
    assert removed == await run_text(deny, arguments, size=len(arguments))


@pytest.mark.parametrize(("arguments", "removed"), [(r'{"a":"q\text"}', '{"a":"q[removed]"}'), (r'{"a":"\\text"}', r'{"a":"\\[removed]"}')])
async def test_an_escape_is_removed_as_a_whole(arguments: str, removed: str) -> None:
    deny = DenyList(DenyConfig(words=("text",), action="replace"))
    for size in (1, 2, 99):
        assert await run_text(deny, arguments, size=size) == removed


async def test_the_attempts_of_a_call_are_separate_texts() -> None:
    run = HookSet([loaded(DenyList(REPLACE))], Metrics(), lambda line: None).begin(FACTS)
    first, second = Pieces(), Pieces()
    said = []
    for pieces, text in ((first, "abc so"), (second, "nightfall "), (first, "xnightfall "), (second, "nightfall "), (first, "nightfall ")):
        said.append(await run.piece("a", "text", text, is_last=False, pieces=pieces))
    assert said == ["abc so", "[removed] ", "xnightfall ", "[removed] ", "[removed] "]


async def test_the_search_for_escapes_ends_if_no_call_waits_for_it() -> None:
    is_left, outcomes = threading.Event(), queue.SimpleQueue[str]()

    def search() -> None:
        is_left.wait()
        try:
            readings("\\n" * 3)
        except TimeoutError:
            outcomes.put("ended")
        else:
            outcomes.put("continued")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_thread(search)
    is_left.set()
    assert await asyncio.to_thread(outcomes.get, timeout=60) == "ended"
