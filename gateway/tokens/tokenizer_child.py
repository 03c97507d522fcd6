"""The tokenizer process: reads requests from its input and writes a result for each, until the input ends."""

from __future__ import annotations

import sys
from typing import IO, Any

import msgspec

from gateway.tokens import ids
from gateway.tokens.encodings import CountTexts, load_tokenizer

LENGTH_BYTES = 4


class NamedEncoding(msgspec.Struct, frozen=True):
    """An encoding or a file, as a request names it."""

    name: str
    file: bool


def read_frame(source: IO[bytes]) -> bytes | None:
    """Return the next frame, or None at the end of the input."""
    head = source.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "big")
    body = source.read(size)
    return body if len(body) == size else None


def write_frame(target: IO[bytes], body: bytes) -> None:
    """Write a frame: its length and its bytes."""
    target.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    target.flush()


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer requests until the input ends."""
    loaded: dict[NamedEncoding, CountTexts] = {}
    while (request := read_frame(source)) is not None:
        operation, name, is_file, argument = msgspec.msgpack.decode(request)
        answer: tuple[str, Any]
        try:
            answer = "ok", _result(operation, NamedEncoding(name, is_file), argument, loaded)
        except ids.UnknownIdError as unknown:
            answer = "unknown", unknown.index
        except Exception as error:  # the process must answer every request
            answer = "failed", f"{type(error).__name__}: {error}"
        write_frame(target, msgspec.msgpack.encode(answer))


def _result(operation: str, encoding: NamedEncoding, argument: Any, loaded: dict[NamedEncoding, CountTexts]) -> Any:
    if operation == "count":
        count = loaded.get(encoding)
        if count is None:
            count = loaded[encoding] = load_tokenizer(encoding)
        return count([text.decode() for text in argument])
    if operation == "encode":
        return ids.encode(argument.decode(), encoding)
    return ids.texts_of(argument, encoding) if operation == "texts" else ids.decode(argument, encoding)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
