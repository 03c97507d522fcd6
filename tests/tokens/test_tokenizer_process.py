"""The tokenizer process counts as this process does, and is started again after it was killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.tokens.counter import TokenCounter
from gateway.tokens.ids import UnknownIdError
from gateway.tokens.tokenizer import BY_BYTES, FALLBACK, Tokenizer, tokenizer_for
from gateway.tokens.tokenizer_process import TokenizerProcess
from providers.base import Body

EXACT = Tokenizer("o200k_base", exact=True)


@pytest.fixture(scope="module")
def process() -> Iterator[TokenizerProcess]:
    running = TokenizerProcess()
    yield running
    running.stop()


def test_it_counts_and_encodes_like_this_process(process: TokenizerProcess) -> None:
    remote, here = TokenCounter(process=process), TokenCounter()
    texts = ["Hello, world!", "Größe \ud800 日本語", ""]
    assert remote.count_texts(texts, EXACT) == here.count_texts(texts, EXACT)
    ids = remote.encode(texts[0], EXACT)
    assert ids == here.encode(texts[0], EXACT)
    assert remote.texts_of(ids, EXACT) == here.texts_of(ids, EXACT)
    assert remote.decode(ids, EXACT) == texts[0]
    assert not remote.is_loaded(EXACT)


@pytest.mark.parametrize("id", [2**31 - 1, 2**70, -1])
def test_an_unknown_id_is_named_by_its_place(process: TokenizerProcess, id: int) -> None:
    with pytest.raises(UnknownIdError) as unknown:
        TokenCounter(process=process).decode([1, 2, id], EXACT)
    assert unknown.value.index == 2


def test_a_process_that_was_killed_is_started_again(process: TokenizerProcess) -> None:
    counts = process.count(EXACT, ["Hello, world!"])
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    assert process.count(EXACT, ["Hello, world!"]) == counts


def test_an_unusable_file_is_replaced_by_the_fallback(process: TokenizerProcess, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    count = TokenCounter(process=process).count_now(Body(b'{"messages": []}'), tokenizer_for("vllm", "mine", str(path)))
    assert count.tokenizer == FALLBACK.label()


def test_without_a_process_bytes_are_counted() -> None:
    counter = TokenCounter(process=TokenizerProcess((sys.executable, "-c", "pass")))
    assert counter.count_now(Body(b'{"messages": []}'), FALLBACK).tokenizer == BY_BYTES.label()


def test_a_process_that_does_not_answer_is_not_waited_for() -> None:
    silent = TokenizerProcess((sys.executable, "-c", "import time; time.sleep(60)"), max_wait_s=0.05)
    assert TokenCounter(process=silent).count_now(Body(b'{"messages": []}'), FALLBACK).tokenizer == BY_BYTES.label()
    assert silent._process is None
