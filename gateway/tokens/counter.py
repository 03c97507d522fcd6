"""Counts the tokens of a conversation offline: with the model's tokenizer if it is known, else with o200k and a safety factor.

Short texts are counted on the event loop, by `QuickCount`: opening its vocabularies takes 3 ms and a few megabytes. Long texts, and
those that need many steps, are counted by the tokenizer process, whose library is several times as fast but takes 64 MB and half
a second to load; the process starts when it is first needed. The counts of texts are cached (`gateway.tokens.count_cache`), so a
long conversation with a short new turn is counted on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import msgspec

from gateway.tokens import ids as token_ids
from gateway.tokens.count_cache import CountCache
from gateway.tokens.encodings import CountTexts, count_bytes, load_tokenizer
from gateway.tokens.messages import (
    COUNTED_BESIDE,
    COUNTED_FIELDS,
    PLAIN_MESSAGE_TOKENS,
    REPLY_TOKENS,
    TOKENS_PER_MESSAGE,
    MessageParts,
    is_short,
    messages_of,
    read_message,
)
from gateway.tokens.pieces import SlowTextError
from gateway.tokens.quick_count import QuickCount
from gateway.tokens.tokenizer import BY_BYTES, FALLBACK, Tokenizer
from gateway.tokens.tokenizer_process import TokenizerProcess
from providers.base import Body
from providers.media.table import UNKNOWN, MediaRules

MAX_INLINE_BYTES = 16 << 10
"""Maximum size of new texts that are counted on the event loop. Measured time: 1.5 ms if all words are known."""

T = TypeVar("T")


class _Thread(threading.local):
    """Whether the current thread may wait for the tokenizer process. The thread of the event loop may not."""

    may_wait = False

    def allow_waiting(self) -> None:
        self.may_wait = True


class TokenCount(msgspec.Struct, frozen=True):
    """Token counts of a conversation: one for each message, and one for everything else."""

    messages: tuple[int, ...]
    overhead: int
    """Tokens of `system_prompt`, the tools, the response format, and the start of the answer."""
    factor: float
    exact: bool
    tokenizer: str

    def total(self, evicted: Collection[int] = ()) -> int:
        """Return the tokens of the prompt without the messages at these indexes."""
        removed = sum(self.messages[index] for index in evicted)
        return math.ceil((sum(self.messages) - removed + self.overhead) * self.factor)

    def totals(self, groups: Sequence[Sequence[int]]) -> list[int]:
        """Return the tokens of the whole prompt, then those after the eviction of each further group."""
        remaining = sum(self.messages) + self.overhead
        totals = [math.ceil(remaining * self.factor)]
        for group in groups:
            remaining -= sum(self.messages[index] for index in group)
            totals.append(math.ceil(remaining * self.factor))
        return totals


class TokenCounter:
    """Counts tokens, caches the counts of texts, and loads encodings when they are first needed."""

    def __init__(
        self, load: Callable[[Tokenizer], CountTexts] | None = None, process: TokenizerProcess | None = None
    ) -> None:
        """`load` returns the function that counts with a tokenizer, or raises ImportError.

        `process` counts texts that need many steps, and all texts whose tokenizer this process has not loaded. Without `process`,
        all tokenizers are loaded into this process when they are first needed.
        """
        self._load = load or load_tokenizer
        self._process = process
        self._quick: dict[str, QuickCount] = {}
        """For each encoding that is open, the function that counts short texts. Only the thread of the event loop calls it."""
        self._usable: dict[str, tuple[Tokenizer | None, CountTexts]] = {}
        """For each tokenizer name, the tokenizer that replaces an unusable one (else None), and the function that counts."""
        self._remote: dict[str, tuple[Tokenizer | None, CountTexts]] = {}
        """The same for the tokenizer process."""
        self._cached: dict[str, CountCache] = {}
        """For each tokenizer name, the counts of texts."""
        self._thread = _Thread()
        self._pool: ThreadPoolExecutor | None = None

    def is_loaded(self, tokenizer: Tokenizer) -> bool:
        """Return whether short texts can be counted on the event loop."""
        return tokenizer.name in self._quick or tokenizer.name in self._usable

    async def load(self, tokenizer: Tokenizer) -> None:
        """Make the tokenizer ready before the first call. Loading a tokenizer.json file blocks the event loop."""
        if not self.is_loaded(tokenizer) and not await self._open(tokenizer):
            await self._in_thread(lambda: self._use_here(tokenizer))

    async def warm(self, tokenizer: Tokenizer) -> None:
        """Make the tokenizer ready while calls continue: a tokenizer.json file in the tokenizer process, unless this process has
        loaded it."""
        if not self.is_loaded(tokenizer) and not await self._open(tokenizer):
            await self._in_thread(lambda: self._use(tokenizer))

    async def _open(self, tokenizer: Tokenizer) -> bool:
        """Open the vocabulary of an encoding. Return False if the whole tokenizer must be loaded instead."""
        if self._process is None or tokenizer.file:
            return False
        self._quick[tokenizer.name] = await self._in_thread(lambda: QuickCount(tokenizer.name))
        return True

    async def count(self, body: Body, tokenizer: Tokenizer, rules: MediaRules = UNKNOWN) -> TokenCount:
        """Count the tokens of a chat body, in a thread if the event loop cannot do it quickly. `rules` count images, audio and files."""
        if self.is_quick(body, tokenizer):
            with suppress(SlowTextError):
                return self.count_now(body, tokenizer, rules, MAX_INLINE_BYTES)
        return await self._in_thread(lambda: self.count_now(body, tokenizer, rules))

    def is_quick(self, body: Body, tokenizer: Tokenizer) -> bool:
        """Return whether a count of a chat body on the event loop is worth a try."""
        return self.is_loaded(tokenizer) and is_short(body, MAX_INLINE_BYTES, self._cache(tokenizer).lengths)

    def count_now(self, body: Body, tokenizer: Tokenizer, rules: MediaRules = UNKNOWN, most: int | None = None) -> TokenCount:
        """Count the tokens of a chat body in this thread. Raise SlowTextError if that takes too long for the event loop, or if more than
        `most` characters have not been counted before.
        """
        tokenizer, batch = self._use(tokenizer)
        parts = [read_message(message, rules) for message in messages_of(body)]
        beside: list[str | bytes] = [body.raw(name) or b"" for name in COUNTED_FIELDS if body.is_true(name)]
        plain = not beside and all(part.plain for part in parts)
        overhead = REPLY_TOKENS
        if prompt := body.get("system_prompt"):
            beside.append(prompt)
            overhead += TOKENS_PER_MESSAGE + 1
        texts = [text for part in parts for text in part.texts]
        counts = self._cache(tokenizer).counts([*texts, *beside], batch, most)
        return TokenCount(
            messages=_by_message(parts, counts, tokenizer.factor),
            overhead=overhead + sum(counts[len(texts) :]),
            factor=tokenizer.factor,
            exact=tokenizer.exact and plain,
            tokenizer=tokenizer.label(),
        )

    def plain_total(self, body: Body, tokenizer: Tokenizer, most: int | None = None) -> int | None:
        """Return the total of `count_now` for a chat body of plain text, the most common kind, in fewer steps. Return None for others."""
        messages = body.plain_messages()
        if messages is None or body.has_any(COUNTED_BESIDE):
            return None
        texts = [message.content for message in messages]
        tokenizer, batch = self._use(tokenizer)
        counts = self._cache(tokenizer).counts(texts, batch, most)
        return math.ceil((sum(counts) + PLAIN_MESSAGE_TOKENS * len(texts) + REPLY_TOKENS) * tokenizer.factor)

    def count_texts(self, texts: list[str], tokenizer: Tokenizer) -> list[int]:
        """Count the tokens of plain texts in this thread, without the tokenizer's factor.

        Raise SlowTextError if that takes too long for the event loop.
        """
        return self._use(tokenizer)[1](texts)

    def _cache(self, tokenizer: Tokenizer) -> CountCache:
        cache = self._cached.get(tokenizer.name)
        if cache is None:
            cache = self._cached.setdefault(tokenizer.name, CountCache())
        return cache

    def _use(self, tokenizer: Tokenizer) -> tuple[Tokenizer, CountTexts]:
        """Return a usable tokenizer and its function, which calls the tokenizer process if this process cannot count the texts."""
        quick = self._quick.get(tokenizer.name)
        if quick is not None and not self._thread.may_wait:
            return tokenizer, quick
        if self._process is None or tokenizer.name in self._usable:
            return self._use_here(tokenizer)
        process, usable = self._process, self._remote.get(tokenizer.name)
        if usable is None:
            count = partial(process.count, tokenizer)
            usable = self._remote[tokenizer.name] = self._tried(tokenizer, lambda _: (count([""]), count)[1], self._use)
        return usable[0] or tokenizer, usable[1]

    def _process_for(self, tokenizer: Tokenizer) -> TokenizerProcess | None:
        """Return the tokenizer process, or None if this process has loaded the tokenizer.

        Raise SlowTextError on the event loop.
        """
        if self._process is None or tokenizer.name in self._usable:
            return None
        if tokenizer.name in self._quick and not self._thread.may_wait:
            raise SlowTextError
        return self._process

    def _use_here(self, tokenizer: Tokenizer) -> tuple[Tokenizer, CountTexts]:
        """Return a usable tokenizer and its function, loaded into this process."""
        usable = self._usable.get(tokenizer.name)
        if usable is None:
            usable = self._usable[tokenizer.name] = self._tried(tokenizer, self._load, self._use_here)
        return usable[0] or tokenizer, usable[1]

    def _tried(
        self,
        tokenizer: Tokenizer,
        load: Callable[[Tokenizer], CountTexts],
        use: Callable[[Tokenizer], tuple[Tokenizer, CountTexts]],
    ) -> tuple[Tokenizer | None, CountTexts]:
        """Return the replacement of a tokenizer (None if the tokenizer is usable), and the function that counts.

        The fallback replaces an unusable tokenizer.json, and a count of bytes replaces an encoding that is not installed.
        """
        try:
            return None, load(tokenizer)
        except ImportError:
            return use(FALLBACK) if tokenizer.file else (BY_BYTES, count_bytes)

    def encode(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Return the ids of a text. Raise ImportError if the tokenizer is unusable."""
        if (process := self._process_for(tokenizer)) is None:
            return token_ids.encode(text, tokenizer)
        ids: list[int] = process.ask("encode", tokenizer, text.encode(errors="replace"))
        return ids

    def texts_of(self, ids: list[int], tokenizer: Tokenizer) -> list[str]:
        """Return the text of each id. Raise UnknownIdError for an unknown id, and ImportError if the tokenizer is unusable."""
        if (process := self._process_for(tokenizer)) is None:
            return token_ids.texts_of(ids, tokenizer)
        texts: list[str] = process.ask("texts", tokenizer, ids)
        return texts

    def decode(self, ids: list[int], tokenizer: Tokenizer) -> str:
        """Return the text of ids. Raise UnknownIdError for an unknown id, and ImportError if the tokenizer is unusable."""
        if (process := self._process_for(tokenizer)) is None:
            return token_ids.decode(ids, tokenizer)
        return str(process.ask("decode", tokenizer, ids))

    async def run(self, work: Callable[[], T], size: int, tokenizer: Tokenizer) -> T:
        """Run `work`, which reads `size` bytes, and return its result.

        `work` runs in a thread if the size is large, if the tokenizer is not loaded, or if `work` raises SlowTextError.
        """
        if size <= MAX_INLINE_BYTES and self.is_loaded(tokenizer):
            with suppress(SlowTextError):
                return work()
        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, "tokens", self._thread.allow_waiting)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _by_message(parts: Sequence[MessageParts], counts: Sequence[int], factor: float) -> tuple[int, ...]:
    """Return the tokens of each message. The tokens of media are divided by `factor`, because the sum of all tokens is multiplied by it."""
    totals: list[int] = []
    position = 0
    for part in parts:
        end = position + len(part.texts)
        media = math.ceil(part.media / factor) if part.media else 0
        totals.append(part.fixed + media + sum(counts[position:end]))
        position = end
    return tuple(totals)


SHARED_COUNTER = TokenCounter(process=TokenizerProcess())
"""One counter per process: cached counts outlive a configuration."""
