"""Loads encodings of toktok-rs and tokenizer.json files.

This module imports no other module of the gateway, to keep the tokenizer process small.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, Protocol

MIN_BYTES_PER_TOKEN = 2
"""Assumed bytes per token, for counts without a tokenizer.

Such a count is an upper bound for text, JSON and numbers, and close to the real count for base64 (measured).
"""

CountTexts = Callable[[list[str]], list[int]]
"""Counts the tokens of each text."""


class Encoding(Protocol):
    """An encoding of toktok-rs by its name, or a tokenizer.json file by its path."""

    @property
    def name(self) -> str:
        """The name or the path."""

    @property
    def file(self) -> bool:
        """Whether the encoding is a tokenizer.json file."""


def count_bytes(texts: list[str]) -> list[int]:
    """Count each text without a tokenizer: half a token per byte."""
    return [math.ceil(len(text.encode(errors="replace")) / MIN_BYTES_PER_TOKEN) for text in texts]


def load_tokenizer(tokenizer: Encoding) -> CountTexts:
    """Return the function that counts with a tokenizer.

    Raise ImportError if its package or file is unusable.
    """
    if tokenizer.file:
        library = load_file(tokenizer.name)
        return lambda texts: [len(encoding.ids) for encoding in library.encode_batch(texts, add_special_tokens=False)]
    toktok = importlib.import_module("toktok")
    toktok.batch_count([""], tokenizer.name)

    def count(texts: list[str]) -> list[int]:
        try:
            counts: list[int] = toktok.batch_count(texts, tokenizer.name, threads=1)
        except UnicodeEncodeError:  # half of a surrogate pair
            counts = toktok.batch_count(
                [text.encode(errors="replace").decode() for text in texts], tokenizer.name, threads=1
            )
        return counts

    return count


def load_file(path: str) -> Any:
    """Return the tokenizer in a tokenizer.json file. Raise ImportError if the file or its package is unusable."""
    package = importlib.import_module("tokenizers")
    try:
        return package.Tokenizer.from_file(path)
    except Exception as error:  # the package raises nothing narrower for an invalid file
        raise ImportError(f"the tokenizer.json cannot be loaded: {error}") from error
