"""Checks of the results of hooks: their types, the types of their fields, and the values that a call could not use."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.hooks.api import Change, Chunk, Emit, Headers, Refuse, Skip

ERROR_STATUSES = range(400, 500)
_ALLOWED: Mapping[str, tuple[type, ...]] = {
    "request": (Change, Refuse), "target": (Headers, Skip, Refuse), "chunk": (Emit, Refuse), "settled": (),
}  # fmt: skip
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_OF_THE_CONNECTION = frozenset({
    "host", "content-length", "accept-encoding", "transfer-encoding", "connection", "keep-alive", "expect", "upgrade", "te", "trailer",
})  # fmt: skip
"""Headers that only the connection sets."""


def check_result(point: str, given: Any, result: Any) -> None:
    """Raise TypeError or ValueError if a point of a hook must not return this for the struct that it was given."""
    if result is None:
        return
    if not isinstance(result, _ALLOWED[point]):
        raise TypeError(f"'{point}' must not return {type(result).__name__}")
    for kind, check in _CHECKS.items():
        if isinstance(result, kind):
            check(given, result)


def is_failure(error: BaseException) -> bool:
    """Return whether an exception is a failure of the hook: not a signal, and not the end of the call that waits for the hook.

    A hook may raise the CancelledError of a task of its own, `sys.exit` may be called in it, and the exceptions of some extension
    modules derive from BaseException.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, KeyboardInterrupt | GeneratorExit)


def _check_change(given: Any, change: Change) -> None:
    if not isinstance(change.texts, Mapping):
        raise TypeError("'texts' of Change must be a mapping of texts by path")
    for text in change.texts.values():
        if text is not None:
            _check_text("texts", text)
    _check_text("why", change.why)


def _check_refuse(given: Any, refuse: Refuse) -> None:
    _check_text("message", refuse.message)
    if not refuse.message:
        raise ValueError("'message' of Refuse must not be empty")
    if not isinstance(refuse.code, str) or not refuse.code or not refuse.code.isprintable():
        raise ValueError("'code' of Refuse must be a string of printable characters")
    if type(refuse.status) is not int or refuse.status not in ERROR_STATUSES:
        raise ValueError("'status' of Refuse must be from 400 to 499")


def _check_headers(given: Any, headers: Headers) -> None:
    if not isinstance(headers.values, Mapping):
        raise TypeError("'values' of Headers must be a mapping of values by name")
    for name, value in headers.values.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("the names and values of Headers must be strings")
        if _HEADER_NAME.fullmatch(name) is None or name.lower() in _OF_THE_CONNECTION:
            raise ValueError("Headers has a name that HTTP does not allow, or that only the connection sets")
        if _HEADER_VALUE.fullmatch(value) is None:
            raise ValueError("Headers has a value with a character that HTTP does not allow")


def _check_skip(given: Any, skip: Skip) -> None:
    _check_text("why", skip.why)


def _check_emit(given: Chunk, emit: Emit) -> None:
    for name, text in (("text", emit.text), ("hold", emit.hold), ("why", emit.why)):
        _check_text(name, text)
    if given.is_last and emit.hold:
        raise ValueError("'hold' of Emit must be empty for the last piece, because the text would be lost")


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise TypeError(f"'{name}' must be a string")
    if not text.isascii():
        text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError


_CHECKS: Mapping[type, Callable[[Any, Any], None]] = {
    Change: _check_change, Refuse: _check_refuse, Headers: _check_headers, Skip: _check_skip, Emit: _check_emit,
}  # fmt: skip
