"""Reads the messages of a chat body: the texts that a tokenizer counts, and the tokens of everything else."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from gateway.tokens.encodings import MIN_BYTES_PER_TOKEN
from providers.base import Body
from providers.media.parts import count_part, is_long_part
from providers.media.table import MediaRules

# OpenAI's chat format: tokens around each message, before a name, and before the answer (its cookbook on counting).
TOKENS_PER_MESSAGE, TOKENS_PER_NAME, REPLY_TOKENS = 3, 1, 3
PLAIN_MESSAGE_TOKENS = TOKENS_PER_MESSAGE + 1
"""Tokens that a message with only a role and a text has in addition to the text."""
COUNTED_FIELDS = ("tools", "functions", "response_format")
COUNTED_BESIDE = frozenset({*COUNTED_FIELDS, "system_prompt"})
"""Fields that are counted in addition to the messages."""
_MESSAGE_FIELDS = ("tool_calls", "function_call", "refusal", "reasoning_content", "tool_call_id")
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


class MessageParts(msgspec.Struct):
    """The texts of a message that must be counted, the number of its other tokens, and whether it is plain text."""

    texts: list[str]
    fixed: int
    """Tokens of the chat format, in the units of the tokenizer."""
    media: int = 0
    """Tokens of images, audio and files; the tokenizer's factor does not apply to them."""
    plain: bool = True


def messages_of(body: Body) -> list[Any]:
    """Return the messages of a body. A message that cannot be decoded is represented by its bytes."""
    try:
        return body.get("messages") or []
    except ValueError:  # invalid UTF-8 in one of the messages
        return list(map(_decoded, _decode_list(body.raw("messages") or b"[]")))


def _decoded(source: msgspec.Raw) -> Any:
    try:
        return _decode(source)
    except ValueError:
        return bytes(source)


def read_message(message: Any, rules: MediaRules) -> MessageParts:
    """Return the parts of a message, as the provider with these `rules` counts them."""
    if type(message) is not dict:  # not text that a tokenizer accepts
        size = len(message) if type(message) is bytes else 0
        return MessageParts([], TOKENS_PER_MESSAGE + size // MIN_BYTES_PER_TOKEN, plain=False)
    found = MessageParts([], PLAIN_MESSAGE_TOKENS)
    content = message.get("content")
    if type(content) is str:
        found.texts.append(content)
    elif type(content) is list:
        for part in content:
            if type(part) is not dict:
                continue
            if part.get("type") == "text":
                found.texts.append(text if type(text := part.get("text")) is str else "")
            else:
                counted = count_part(part, rules)
                found.media += counted.tokens
                found.texts += counted.texts
                found.plain = False
    if len(message) == 2 and "role" in message:
        return found
    if type(message.get("name")) is str:
        found.texts.append(message["name"])
        found.fixed += TOKENS_PER_NAME
    for name in _MESSAGE_FIELDS:
        value = message.get(name)
        if value:
            found.texts.append(value if type(value) is str else msgspec.json.encode(value).decode())
            found.plain = False
    return found


def is_short(body: Body, most: int, known: Container[int] = ()) -> bool:
    """Return whether the texts of a chat body have at most `most` characters, so counting them takes little time.

    Texts whose length is in `known` do not count.
    """
    size = 0
    for length in chain(_lengths_beside(body), _lengths(messages_of(body))):
        if length not in known:
            size += length
            if size > most:
                return False
    return True


def _lengths_beside(body: Body) -> list[int]:
    return [len(body.raw(name) or b"") for name in COUNTED_BESIDE if name in body]


def _lengths(messages: Iterable[Any]) -> Iterator[int]:
    for message in messages:
        if type(message) is not dict:
            yield len(message) if type(message) is bytes else 0
            continue
        for name, value in message.items():
            if type(value) is str:
                yield len(value)
            elif name == "content" and type(value) is list:
                for part in value:
                    if type(part) is not dict or part.get("type") == "image_url":
                        continue
                    if part.get("type") == "text":
                        yield len(part["text"]) if type(part.get("text")) is str else 0
                    elif is_long_part(part):
                        yield 1 << 40
                    else:
                        yield 64  # its header
            elif value:
                yield len(msgspec.json.encode(value))
