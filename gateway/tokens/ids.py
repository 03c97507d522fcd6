"""Token ids of a text, and the text of token ids, with an encoding of toktok-rs or a tokenizer.json file."""

from __future__ import annotations

import importlib
from typing import Any

from gateway.tokens.encodings import Encoding, load_file

MAX_FILE_IDS = 1 << 32
"""Ids of a tokenizer.json are below this number."""


class UnknownIdError(ValueError):
    """A token id that the tokenizer does not have."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the token at index {index} is unknown")
        self.index = index


def encode(text: str, tokenizer: Encoding) -> list[int]:
    """Return the ids of a text, in which special tokens are plain text.

    Raise ImportError if the tokenizer is unusable.
    """
    library = _library(tokenizer)
    if tokenizer.file:
        ids: list[int] = library.encode(text, add_special_tokens=False).ids
    else:
        ids = library.encode_ordinary(text.encode(errors="replace").decode())
    return ids


def texts_of(ids: list[int], tokenizer: Encoding) -> list[str]:
    """Return the text of each id, with a replacement character for a part of a character.

    Raise UnknownIdError for an unknown id, and ImportError if the tokenizer is unusable.
    """
    if not tokenizer.file:
        return [part.decode(errors="replace") for part in _bytes_of(ids, tokenizer)]
    library = _library(tokenizer)
    for index, id in enumerate(ids):
        if id >= MAX_FILE_IDS or library.id_to_token(id) is None:
            raise UnknownIdError(index)
    return [library.decode([id], skip_special_tokens=False) for id in ids]


def decode(ids: list[int], tokenizer: Encoding) -> str:
    """Return the text of ids. Raise UnknownIdError for an unknown id, and ImportError if the tokenizer is unusable."""
    if not tokenizer.file:
        return b"".join(_bytes_of(ids, tokenizer)).decode(errors="replace")
    texts_of(ids, tokenizer)
    return str(_library(tokenizer).decode(ids, skip_special_tokens=False))


def _bytes_of(ids: list[int], tokenizer: Encoding) -> list[bytes]:
    library, parts = _library(tokenizer), []
    for index, id in enumerate(ids):
        try:
            parts.append(bytes(library.decode_single_token_bytes(id)))
        except (LookupError, OverflowError, ValueError):
            raise UnknownIdError(index) from None
    return parts


def _library(tokenizer: Encoding) -> Any:
    if tokenizer.file:
        return load_file(tokenizer.name)
    return importlib.import_module("toktok")._encoding(tokenizer.name)
