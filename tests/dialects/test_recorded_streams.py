"""Streams of all provider types keep the grammar of every API, and their usage, however their bytes arrive."""

from __future__ import annotations

from random import Random

import pytest

from gateway.streams.relay import DONE
from tests.dialects.recorded_streams import APIS, NONE, Api, Case, cases, chat_pieces, tokens_of, translated
from tests.dialects.responses_api.grammar import assemble
from tests.providers.stream_grammar import read_stream
from tests.providers.test_stream_grammar import FORMS, forms_of, random_bytes, random_pieces

CASES = cases()
FORMS.update({id(case.shape): forms_of(case.shape) for case in CASES})


def wire_of(case: Case) -> bytes:
    """Return the plain bytes of a stream."""
    return b"".join(b"\n".join([*one_line, b"", b""]) for one_line, _ in FORMS[id(case.shape)])


class Checker:
    """Checks the streams that callers get. Equal chat streams in equal pieces are translated once; equal events are checked once."""

    def __init__(self) -> None:
        self._translated: set[tuple[int, tuple[bytes, ...]]] = set()
        self._checked: set[tuple[str, int, bytes]] = set()

    def check(self, case: Case, pieces: list[bytes]) -> None:
        """Check one stream in every API."""
        sent, booked = chat_pieces(case.shape, pieces)
        if booked is None:
            assert case.tokens is NONE
        else:
            counts = booked.prompt_tokens, booked.completion_tokens, booked.cached_tokens
            assert (*counts, booked.cache_write_tokens, booked.reasoning_tokens) == case.tokens
        key = id(case.shape), tuple(sent)
        if key in self._translated:
            return
        self._check_chat(case, b"".join(sent).removesuffix(DONE))
        for api in APIS:
            self._check(api, case, translated(api.translator(), sent))
        self._translated.add(key)

    def _check_chat(self, case: Case, out: bytes) -> None:
        key = "chat", id(case.shape), out
        if key in self._checked:
            return
        messages, usage = read_stream(out)
        shape = case.shape
        assert sorted(messages) == list(range(shape.choices))
        for message in messages.values():
            found = message.text, message.reasoning, message.parsed_calls(), message.finish
            assert found == (shape.text, shape.reasoning, shape.calls, shape.finish)
        assert tokens_of(usage) == case.tokens
        self._checked.add(key)

    def _check(self, api: Api, case: Case, out: bytes) -> None:
        key = api.name, id(case.shape), out
        if key not in self._checked:
            assert api.read(out) == api.expected(case), api.name
            self._checked.add(key)


CHECKER = Checker()


def check_random_chunkings(count: int, seed: int) -> None:
    """Check each stream with its share of `count` chunkings."""
    random = Random(seed)
    for number in range(count):
        case = CASES[number % len(CASES)]
        pieces = random_pieces(random_bytes(case.shape, random), random)
        try:
            CHECKER.check(case, pieces)
        except Exception as error:
            raise AssertionError(f"{case.shape.kind}, {case.shape.name}: {pieces}") from error


def test_recorded_streams_mean_the_same_in_every_api() -> None:
    checker = Checker()
    for case in CASES:
        wire = wire_of(case)
        checker.check(case, [wire])
        checker.check(case, [bytes([byte]) for byte in wire])
    assert len({case.shape.kind for case in CASES}) == 21


def test_events_have_the_types_of_the_openai_package() -> None:
    (responses,) = (api for api in APIS if api.name == "responses")
    for case in CASES:
        assemble(translated(responses.translator(), chat_pieces(case.shape, [wire_of(case)])[0]))


def test_random_chunkings_keep_the_grammar_of_every_api() -> None:
    check_random_chunkings(len(CASES) * 2, 13)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_thousand_chunkings_keep_the_grammar_of_every_api(seed: int) -> None:
    check_random_chunkings(25_000, seed)
