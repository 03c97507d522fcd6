"""The counts of texts by one tokenizer. Callers send the whole history and the same tools with every turn of a conversation.

The key of a short text is the text itself, and that of another its hash.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Sequence
from itertools import islice
from typing import Any

from gateway.tokens.encodings import CountTexts
from gateway.tokens.pieces import SlowTextError
from providers.value_hash import ValueHash, value_hash

MAX_CACHED_COUNTS = 20_000
"""Maximum number of cached counts of one tokenizer."""
DROPPED_SHARE = 16
"""If there are too many counts, the oldest are dropped: one in this many."""
MIN_HASHED_CHARS = 32
"""Minimum length of texts whose key is a hash."""


class CountCache:
    """The cached counts of one tokenizer."""

    __slots__ = ("_counts", "_lengths", "_lock")

    def __init__(self) -> None:
        self._counts: dict[str | bytes | ValueHash, int] = {}
        self._lengths: set[int] = set()
        self._lock = threading.Lock()

    @property
    def lengths(self) -> Container[int]:
        """The lengths of long texts that were counted. A text of another length is new."""
        return self._lengths

    def counts(self, texts: Sequence[str | bytes], count: CountTexts, most: int | None = None) -> list[int]:
        """Return the tokens of each text, in UTF-8 if it is bytes. Texts without a cached count are counted together.

        Raise SlowTextError if those have more than `most` characters.
        """
        keys = [text if len(text) < MIN_HASHED_CHARS else value_hash(text) for text in texts]
        counts: list[Any] = list(map(self._counts.get, keys))
        if None in counts:
            new = [index for index, known in enumerate(counts) if known is None]
            if most is not None and sum(len(texts[index]) for index in new) > most:
                raise SlowTextError
            found = count([_text(texts[index]) for index in new])
            for index, tokens in zip(new, found, strict=True):
                counts[index] = tokens
            self._keep({keys[index]: counts[index] for index in new}, {len(text) for text in texts if len(text) >= MIN_HASHED_CHARS})
        return counts

    def _keep(self, counts: dict[str | bytes | ValueHash, int], lengths: set[int]) -> None:
        with self._lock:
            self._counts.update(counts)
            if len(self._counts) > MAX_CACHED_COUNTS:  # drop many at once: a search for the oldest passes the gaps of dropped ones
                for key in list(islice(self._counts, len(self._counts) - MAX_CACHED_COUNTS + MAX_CACHED_COUNTS // DROPPED_SHARE)):
                    del self._counts[key]
            self._lengths |= lengths
            if len(self._lengths) > MAX_CACHED_COUNTS:
                self._lengths = lengths  # a thread counts texts of the others, and adds their lengths again


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode(errors="replace")
