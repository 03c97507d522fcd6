"""The values that the masker finds where they touch other characters, after escapes, in long texts and in hostile texts."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.keys import _new_secret
from gateway.commands.key import KEY_PREFIX
from gateway.config.hook import MASK_KINDS, MaskConfig, MaskKind
from gateway.hooks import recognizers
from gateway.hooks.api import MAX_LOOP_CHARS
from gateway.hooks.background import in_thread
from gateway.hooks.masker import Masker
from gateway.hooks.recognizers import FORMS, Recognizer
from gateway.hooks.testing import run_request, run_text
from gateway.hooks.views import AHEAD_CHARS, BEHIND_CHARS, WINDOW_CHARS, readings, windows
from tests.hooks.test_masker import JWT, ORDINARY, VALUES, ask
from tests.support.each import each
from tests.support.search import examples

ALL = Recognizer(MASK_KINDS)
DISTINCT: tuple[tuple[MaskKind, str], ...] = (
    ("api_key", "sk-proj-abcdefghijklmnopqrstuv"), ("api_key", "sk-Zx81" + "a" * 30), ("api_key", "ghp_" + "a1" * 18),
    ("api_key", "AKIAIOSFODNN7EXAMPLE"), ("api_key", "xoxb-123456789012-abcdef"), ("api_key", "sk-ant-api03-Ab_d" + "e9-X" * 12),
    ("jwt", JWT),
    ("iban", "DE89370400440532013000"), ("iban", "GB82 WEST 1234 5698 7654 32"), ("card", "4111 1111 1111 1111"),
    ("card", "4111111111111111"), ("phone", "+49 30 901820"), ("phone", "+4930901820123"), ("phone", "(415) 555-2671"),
)  # fmt: skip
UNSPACED = ("请联系", "는", "です", "ติดต่อ", "：", "“")
PLAIN = (
    "risk-assessment-methodology-overview", "task-internationalization", "desk-configuration-and-maintenance-guide-2024",
    "EURASIANDEVELOPMENTBANK", "alg-some-very-long-hyphenated-slug-of-more-than-43-characters", "xoxo-hugs-and-kisses",
    "lg-65-inch-class-4k-uhd-smart-tv-oled65c3pua-2023-model-x", "foo@1.0.beta2", "user@localhost", "@dataclass", "a += 10000000",
    "n+1000000", "call_4111111111111111", "v1.2.3.4", "1.2.3.4rc1", "std::vector", "MSG.module.name", "half_life_2004_update",
    "b4be12e3d4c5a697f8091a2b3c4d5e6f", "8a4111111111111111b3",
    "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "msg.level.debug.handler", "10.5.3",
    "C:\\new\\test\\bob",
    "\\\\server\\share", "\\frac{1}{2}", "monkey-0123", "the eyJ prefix", "2026-11-29 10:00:00", "0x7f8a9b", "1990–2026",
)  # fmt: skip


def values(text: str) -> set[tuple[MaskKind, str]]:
    """Return the values in a text."""
    return {(found.kind, found.value) for found in ALL.find(text)}


@each(("kind", "value"), DISTINCT)
def test_a_distinct_value_may_touch_letters_digits_and_underscores(kind: MaskKind, value: str) -> None:
    befores = ("Karte", "Ключ", *UNSPACED, "é", *(() if value == "4111111111111111" else ("_", "Key_")))
    for before in befores:
        assert (kind, value) in values(f"{before}{value}"), before
    for after in ("_", "_x", *UNSPACED, "\u00a0"):
        assert [found.start for found in ALL.find(f"is {value}{after}")] == [3], after


@each(("kind", "value"), VALUES)
def test_every_value_may_touch_scripts_without_spaces(kind: MaskKind, value: str) -> None:
    for before in UNSPACED:
        for after in UNSPACED:
            if value == "jörg@bücher.example" or kind in ("api_key", "jwt", "email"):
                assert {found.kind for found in ALL.find(f"{before}{value}{after}")} == {kind}
            else:
                assert values(f"{before}{value}{after}") == {(kind, value)}, (before, after)


EDGE_TEXTS = (
    "", ".", "中", "あ", "é", "я", "\u00a0", "\n", "/", "=", ":", "<", ">", "(", "[", "{", "'", '"', "`", "*", "~", "|", "&", ";", ",",
    "@", "#", "$", "👋", "\u200b", "：", "，", "。", "\x00", "\\n", "\\u00e9", '\\"', "\\\\", "\\t", "\\/", "\\r\\n", "\\\\n",
)  # fmt: skip


@each(("kind", "value"), VALUES)
def test_every_value_may_touch_punctuation_and_escapes(kind: MaskKind, value: str) -> None:
    for before in (*EDGE_TEXTS, "Nr.", "IP:", "Tel.", "Tel.:"):
        for after in EDGE_TEXTS:
            found = ALL.find(f"x {before}{value}{after} y")
            assert [each.kind for each in found if value in each.value] == [kind], (before, after)


def test_an_address_ends_where_another_script_begins() -> None:
    others = (("请联系", "谢谢"), ("联系", "请访问www.example.com"), ("메일은", "로"), ("_", "_x"), ("", "2024"), ("x" * 70, "请"))
    for before, after in others:
        found = ALL.find(f"{before}ada@example.org{after}")
        assert len(found) == 1, before
        assert found[0].value.endswith("ada@example.org"), found
        assert before.isascii() or found[0].value == "ada@example.org"
    assert values("写信给用户@例子.中国") == {("email", "写信给用户@例子.中国")}
    assert values("ａｄａ＠ｅｘａｍｐｌｅ．ｏｒｇ ４１１１１１１１１１１１１１１１") == {
        ("email", "ａｄａ＠ｅｘａｍｐｌｅ．ｏｒｇ"), ("card", "４１１１１１１１１１１１１１１１"),
    }  # fmt: skip
    assert values("jo\u0308rg@bu\u0308cher.example") == {("email", "jo\u0308rg@bu\u0308cher.example")}
    assert [found.end for found in ALL.find("ada@example.org\u200b\u200b x")] == [15]
    for hidden in ("\u200b", "\u00ad", "\u2060"):
        assert values(f"is {hidden}ada{hidden}@exam{hidden}ple.org, 4111{hidden}111111111111") == {
            ("email", "ada@example.org"), ("card", "4111111111111111"),
        }  # fmt: skip
    spaced = "DE89 3704 0044 0532 0130 00".replace(" ", "\u00a0")
    assert values(spaced) == {("iban", spaced)}


@each("zero", "٠۰߀०০੦૦୦௦౦೦൦෦๐໐༠၀០᠐𝟎𝟘𝟢𝟬𝟶")
def test_values_in_digits_of_other_scripts_are_recognized(zero: str) -> None:
    local = {ord(str(digit)): ord(zero) + digit for digit in range(10)}
    for kind, value in (("phone", "+49 30 901820"), ("card", "4111 1111 1111 1111"), ("iban", "DE89 3704 0044 0532 0130 00")):
        written = value.translate(local)
        assert values(f"x {written} y") == {(kind, written)}


@each("dash", "\u2010\u2011\u2012\u2013\u2212")
def test_dashes_between_digits_are_hyphens(dash: str) -> None:
    for kind, value in (("phone", "+49-30-901820"), ("card", "4111-1111-1111-1111"), ("phone", "030-901820")):
        written = value.replace("-", dash)
        assert values(f"({written})") == {(kind, written)}
    assert values("\u2013 4111 1111 1111 1111") == values("\u20134111 1111 1111 1111") == {("card", "4111 1111 1111 1111")}
    assert values("1914\u20131918, S. 212\u2013215") == set()


@each("text", (*PLAIN, *ORDINARY))
def test_a_plain_text_is_not_masked_where_it_touches_others(text: str) -> None:
    for before, after in (("", ""), ("请", "谢"), ("(", ")"), ('"\\n', '\\n"'), ("é", "é")):
        assert ALL.find(before + text + after) == [], (before, after)


def test_the_words_of_the_documents_are_not_masked() -> None:
    words = sorted(set(re.findall(r"[A-Za-z]{3,}", (Path(__file__).parents[2] / "docs/configuration.md").read_text())))
    assert len(words) > 500
    for joint in ("-", "_", "", ".", "\\n"):
        assert ALL.find(joint.join(words)) == []


def test_the_keys_of_the_gateway_are_recognized() -> None:
    for _ in range(300):
        secret, _, _ = _new_secret()
        assert secret.startswith(KEY_PREFIX)
        for before, after in (("", ""), ("key_", "_"), ("密钥", "是"), ('{"a": "\\n', '\\n"}'), ("Bearer ", "abc")):
            assert values(before + secret + after) == {("api_key", secret)}


@pytest.mark.parametrize("inner", ["fw_" + "a1" * 11, "AIza" + "bC3" * 11 + "d4"])
def test_a_key_of_the_gateway_that_contains_another_form_is_one_value(inner: str) -> None:
    secret = KEY_PREFIX + ("xY7" + inner + "Zq9" * 15)[:43]
    assert values(f"use {secret} now") == {("api_key", secret)}


ESCAPED = st.sampled_from([value for value in VALUES if value[0] not in ("ip", "phone")] + [("phone", "+49 30 901820")])
EDGES = st.sampled_from(["", "\n", "\t", '"', "\\", "é", "中", "\b", "/", "x\n", "👋"])


@given(ESCAPED, EDGES, st.integers(0, 3), st.booleans())
@settings(max_examples=examples(600), deadline=None)
async def test_escapes_of_json_hide_no_value(found: tuple[MaskKind, str], before: str, levels: int, is_ascii: bool) -> None:
    kind, value = found
    text = f"a {before}{value}{before[::-1]}"
    for _ in range(levels):
        text = json.dumps({"a": text}, ensure_ascii=is_ascii)
    (mask,) = re.findall(r"\[[A-Z_]+_1\]", json.dumps(await sent(text), ensure_ascii=False))
    assert mask == f"[{kind.upper()}_1]"
    for given_text in (text, text[: len(text) - levels], f"Result: {text}"):
        whole = await sent(given_text)
        for _ in range(levels):
            assert value not in whole
            if given_text is not text:
                break
            whole = json.loads(whole)["a"]
        if given_text is text:
            assert value not in whole
            assert f"{before}{mask}" in whole or kind == "email"


async def sent(text: str) -> Any:
    """Return a text as the upstream gets it, in a message."""
    return (await run_request(Masker(MaskConfig()), ask(text)))["messages"][0]["content"]


async def test_arguments_that_are_not_complete_json_are_masked() -> None:
    whole = json.dumps({"to": "jos\u00e9@example.org", "body": '"\nada@example.org\n"', "key": "x\nsk-proj-abcdefghijklmnopqrstuv"})
    for end in range(len(whole) - 3, len(whole) + 1):
        call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": whole[:end]}}
        request = {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
        changed = json.dumps(await run_request(Masker(MaskConfig()), request))
        assert "example.org" not in changed
        assert "sk-proj" not in changed
        assert len(re.findall(r"\[EMAIL_[12]\]", changed)) == 2


async def test_a_value_has_one_mask_whatever_its_escapes() -> None:
    text = 'josé@example.org {"a": "\\njos\\u00e9@example.org"}'
    assert await sent(text) == '[EMAIL_1] {"a": "\\n[EMAIL_1]"}'
    assert await run_text(Masker(MaskConfig()), "[EMAIL_1]", request=ask(text)) == "josé@example.org"


FILLERS = st.sampled_from(["x", " ", "\\n", "é", "中", "a1, "])


@given(st.integers(0, 3), st.integers(-40, 40), st.sampled_from([value for _, value in VALUES]), FILLERS)
@settings(max_examples=examples(200), deadline=None)
def test_a_value_in_a_long_text_is_found_once_wherever_it_is(at: int, shift: int, value: str, filler: str) -> None:
    before = (filler * (at * WINDOW_CHARS + 100))[: max(0, at * WINDOW_CHARS + shift)] + " "
    text = before + value + " " + filler * 40_000
    found = [(each.start, each.value) for each in ALL.find(text)]
    assert found == [(len(before), value)]


def test_windows_own_each_character_once() -> None:
    for size in (0, 1, WINDOW_CHARS, WINDOW_CHARS + AHEAD_CHARS, WINDOW_CHARS + AHEAD_CHARS + 1, 5 * WINDOW_CHARS + 7):
        text = "".join(map(chr, range(0x4E00, 0x4E00 + 997))) * (size // 997 + 1)
        text = text[:size]
        owned = "".join(window.text[window.first : window.last] for window in windows(text))
        assert owned == text
        assert all(len(window.text) <= WINDOW_CHARS + AHEAD_CHARS + BEHIND_CHARS for window in windows(text))
        assert all(text[window.base :].startswith(window.text) for window in windows(text))


@given(st.text(alphabet='\\"nu0061ed83c中', max_size=30))
@settings(max_examples=examples(600), deadline=None)
def test_readings_map_each_character_to_its_place(text: str) -> None:
    views, limit = readings(text)
    assert limit == len(text)
    assert views[0].text == text
    for view in views:
        assert len(view.starts) == len(view.text) + 1
        assert list(view.starts) == sorted(view.starts)
        assert view.starts[-1] == len(text)
    try:
        wanted = json.loads(f'"{text}"')
    except ValueError:
        return
    if "\\" in text and not any("\ud800" <= char < "\ue000" for char in wanted):
        assert views[1].text == wanted


HOSTILE = (
    "eyJ", "-eyJ", ".eyJ", ".eyJaaaa", "eyJaaaaaaaa.", "a@", "a@a.", "a@" + "x" * 60 + ".", "sk-", "_sk-1", "lg-", "lg-A", "AKIA", "xoxb-",
    "SG.",
    "4444 ", "4", "+1 ", "00 1", "01 23 ", "415-555-", "de11 ", "de89370400440532013001 ", "1.1.1.1.", "abcdef:",
    "\\", "\\n", "\\\\u0061", "é",
    "中@", "[A", "[EMAIL_", "e\u0301", "\u00a0",
)  # fmt: skip


class Spy:
    """Records the largest number of characters that one search of a pattern may read."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern
        self.largest = 0

    def search(self, text: str, at: int) -> Any:
        """Search, and note the number of characters from `at` to the end of the text."""
        self.largest = max(self.largest, len(text) - at)
        return self._pattern.search(text, at)


@pytest.mark.parametrize("part", HOSTILE)
def test_one_search_of_a_hostile_text_is_bounded(part: str) -> None:
    recognizer = Recognizer(MASK_KINDS)
    spies = [Spy(pattern) for _, _, pattern, _ in recognizer._forms]
    forms: list[Any] = [(kind, mark, spy, locate) for (kind, mark, _, locate), spy in zip(recognizer._forms, spies, strict=True)]
    recognizer._forms = forms
    recognizer.find((part * 200_000)[:200_000])
    assert max(spy.largest for spy in spies) <= WINDOW_CHARS + AHEAD_CHARS + BEHIND_CHARS


async def test_a_hostile_text_is_searched_outside_the_event_loop() -> None:
    threads: set[int] = set()

    class Noting(Recognizer):
        def find(self, text: str) -> list[recognizers.Found]:
            threads.add(threading.get_ident())
            return super().find(text)

    masker = Masker(MaskConfig())
    masker._recognizer = Noting(MASK_KINDS)
    await run_request(masker, ask("-eyJ" * MAX_LOOP_CHARS))
    assert threading.get_ident() not in threads
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(turn())
    text = "[EMAIL_1] [A_1 " * MAX_LOOP_CHARS
    assert await run_text(masker, text, size=len(text), request=ask("ada@example.org")) == text.replace("[EMAIL_1]", "ada@example.org")
    task.cancel()
    assert turns > 1


async def test_a_search_ends_when_no_call_waits_for_it() -> None:
    ended = threading.Event()

    def search() -> None:
        try:
            while True:
                ALL.find("4444 " * 100)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_thread(search)
    assert await asyncio.to_thread(ended.wait, 60)
    assert ALL.find("ada@example.org"), "the end of one search does not end others"


def test_no_form_repeats_a_repetition() -> None:
    for _, _, pattern in FORMS:
        assert not re.search(r"[*+}]\)[*+]", pattern), pattern


@each("apostrophe", "'’＇")
def test_an_apostrophe_inside_a_name_belongs_to_an_address_and_a_quotation_mark_does_not(apostrophe: str) -> None:
    address = f"o{apostrophe}brien@example.com"
    for text in (f"to {address}.", f"{apostrophe}{address}{apostrophe}", f"<{address}>", f'"{address}"', f"({address})"):
        assert values(text) == {("email", address)}, text
    for text in (f"{apostrophe}ada@example.com{apostrophe}", f"f{apostrophe}ada@example.com{apostrophe}", f"x={apostrophe}ada@example.com"):
        assert values(text) == {("email", "ada@example.com")}, text


@each("dot", "。｡")
def test_an_ideographic_full_stop_is_a_dot_in_a_domain_and_ends_a_sentence_after_one(dot: str) -> None:
    for address in (f"ada@example{dot}com", f"ada@mail{dot}example{dot}org", f"用户@例子{dot}中国", f"ada@例子{dot}公司"):
        assert values(f"x {address} y") == {("email", address)}
    for after in ("谢谢", "GPT", " Thanks", ""):
        assert values(f"写信给 ada@example.org{dot}{after}") == {("email", "ada@example.org")}, after
    assert values(f"见 ada@localhost{dot}谢谢你") == set()
