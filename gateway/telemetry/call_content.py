"""The captured content of a call: its request and response as text, without secrets, images or audio.

The thread that writes records makes the text, not the event loop.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.targets.secrets import secrets_of

if TYPE_CHECKING:
    from gateway.call import Call

MAX_CONTENT_BYTES = 64 << 10
"""Maximum size of the text that is kept of a request or a response."""
MIN_DATA_CHARS = 256
"""Minimum length at which text without spaces counts as the data of an image, a recording or a file."""
MASK = "***"
_DATA = re.compile(rf"(?:data:[\w/.+-]{{0,64}};base64,)?[A-Za-z0-9+/_-]{{{MIN_DATA_CHARS},}}={{0,2}}")
_SECRET = re.compile(
    r"\b(?:sk|pk|rk|lg|xai|gsk|ghp|gho|github_pat|glpat|hf|xox[abps]|AKIA|AIza)[-_A-Za-z0-9]{16,}"
    r"|(?<=Bearer )[^\s\"\\]{8,}"
)
"""Matches credentials by their usual prefixes."""


class CallContent(msgspec.Struct, frozen=True):
    """The content of a finished call, as bytes."""

    id: str
    request: bytes
    response: bytes
    is_cut: bool
    secrets: tuple[str, ...]
    """The secrets of the targets that were tried."""

    @property
    def size(self) -> int:
        """Size in bytes while the content waits to be written."""
        return len(self.request) + len(self.response)


def content_of(call: Call) -> CallContent | None:
    """Return the content of a finished call, or None if it was not captured."""
    if (captured := call.content) is None:
        return None
    secrets = {secret: None for attempt in call.attempts for secret in secrets_of(attempt.target)}
    return CallContent(call.id, captured.request, captured.response, captured.is_cut, tuple(secrets))


def stored_content(content: CallContent) -> bytes:
    """Return the content as the JSON object that is stored: `request`, `response`, and `cut` if either is incomplete."""
    request, is_request_cut = _shown(content.request, content.secrets)
    response, is_response_cut = _shown(content.response, content.secrets)
    shown: dict[str, Any] = {"request": request, "response": response}
    if is_request_cut or is_response_cut or content.is_cut:
        shown["cut"] = True
    return msgspec.json.encode(shown)


def _shown(body: bytes, secrets: tuple[str, ...]) -> tuple[str, bool]:
    """Return a body as text of at most MAX_CONTENT_BYTES, and whether the masked text was longer."""
    try:
        text = msgspec.json.encode(_without_data(msgspec.json.decode(body))).decode()
    except (ValueError, RecursionError):  # events of a stream, or the beginning of an answer
        text = _DATA.sub(lambda match: _size_of(match[0]), body[: 2 * MAX_CONTENT_BYTES].decode("utf-8", "replace"))
    for secret in secrets:
        text = text.replace(secret, MASK)
    encoded = _SECRET.sub(MASK, text).encode("utf-8", "replace")
    return encoded[:MAX_CONTENT_BYTES].decode("utf-8", "ignore"), len(encoded) > MAX_CONTENT_BYTES


def _without_data(value: Any) -> Any:
    """Replace images, recordings and files by their size."""
    if isinstance(value, str):
        if len(value) < MIN_DATA_CHARS:
            return value
        is_data = (value.startswith("data:") or " " not in value[:MIN_DATA_CHARS]) and _DATA.match(value)
        return _size_of(value) if is_data else _DATA.sub(lambda match: _size_of(match[0]), value[: MAX_CONTENT_BYTES + 1])
    if isinstance(value, dict):
        return {name: _without_data(item) for name, item in value.items()}
    return [_without_data(item) for item in value] if isinstance(value, list) else value


def _size_of(data: str) -> str:
    return f"<{len(data)} characters of data>"
