"""The Messages API as a dialect: its paths and the translator of one call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.dialects.dialect import request_id_of
from gateway.dialects.file_addresses import refuse_addresses
from gateway.dialects.messages_api.answer import translate_answer
from gateway.dialects.messages_api.errors import translate_error, translate_headers
from gateway.dialects.messages_api.origin import Origin, origins_of_texts
from gateway.dialects.messages_api.request import PLAIN, callers_name, callers_receipt, translate_request
from gateway.dialects.messages_api.stream import MessageStream
from gateway.dialects.messages_api.thinking import fit_thinking
from gateway.dialects.plain_request import PlainRequest, translate_plain
from gateway.errors import BadRequest, Headers
from providers.base import Adjustment, Body, Target
from providers.body import PlainMessage

MESSAGES_PREFIXES = ("/v1", "", "/anthropic/v1", "/anthropic")
"""Path prefixes of the Messages API: Anthropic's own, the empty prefix, and both of them below `/anthropic`."""

VERSION_HEADER = "anthropic-version"
_PATH = re.compile(r"(?:/anthropic)?(?:/v1)?/messages(?:/.*)?|/anthropic/.*")


def is_messages_call(path: str, headers: Headers) -> bool:
    """Return whether a request belongs to Anthropic's API, according to its path or to the header that Anthropic's clients send."""
    return _PATH.fullmatch(path) is not None or any(name == b"anthropic-version" for name, _ in headers)



class MessagesTranslator:
    """Translates one call of the Messages API."""

    used_headers = frozenset({VERSION_HEADER})
    refusal: BadRequest | None = None
    loss: BadRequest | None = None
    _file_addresses: Sequence[str] = ()
    _origins: list[Origin] | None = None
    _plain: PlainRequest | None = None
    """The usual request, whose origins are listed when they are first needed."""
    _model = ""
    _stops: tuple[str, ...] = ()
    _request_id: str | None = None
    _stream: MessageStream | None = None

    def __init__(self, *, counts: bool = False) -> None:
        """`counts` is True for a request that only counts tokens."""
        self._counts = counts
        self.adjustments: list[Adjustment] = []

    def plain_request(self, given: Body) -> Body | None:
        """Return the chat completion for the usual request, or None for any other request."""
        plain = translate_plain(given, PLAIN) if given.raw("max_tokens") not in (None, b"0") else None
        if plain is None:
            return None
        self._plain = plain
        model = given.get("model")
        self._model = model if type(model) is str else ""
        if "stop_sequences" in given:
            self._stops = tuple(stop for stop in given.get("stop_sequences") if type(stop) is str)
        return plain.body

    def plain_texts(self) -> list[PlainMessage] | None:
        """Return the messages of a short conversation of texts, with the system prompt, or None for any other request."""
        return self._plain.body.plain_messages() if self._plain is not None else None

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the chat completion for a Messages request."""
        translated = translate_request(source, strict=strict, counts=self._counts)
        self.adjustments, self.refusal, self.loss = translated.adjustments, translated.refusal, translated.loss
        self._origins, self._file_addresses = translated.origins, translated.file_addresses
        self._model, self._stops = translated.model, translated.stops
        return translated.body

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Fit thinking and effort to a target. Refuse addresses of documents unless the target fetches documents."""
        refuse_addresses(self._file_addresses, target, "send the document as base64 or text")
        return fit_thinking(body, target, strict=strict)

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter. The parameters of `refusal` and `loss` already have that name."""
        if any(error is not None and name == error.param for error in (self.refusal, self.loss)):
            return name
        return callers_name(name, origins) if (origins := self._places()) else name

    def _places(self) -> list[Origin]:
        """Return the origins of the messages of the chat completion."""
        if self._origins is None:
            self._origins = origins_of_texts(self._plain.turns, has_system=self._plain.has_system) if self._plain is not None else []
        return self._origins

    def headers(self, headers: Headers) -> Headers:
        """Return the headers with Anthropic's names, and keep the request id for errors."""
        self._request_id = request_id_of(headers) or None
        return translate_headers(headers)

    def answer(self, answer: bytes) -> bytes:
        """Return the message for a chat answer."""
        return translate_answer(answer, self._model, self._stops, self._receipt)

    def error(self, status: int, body: bytes) -> bytes:
        """Return the error in Anthropic's format."""
        return translate_error(status, body, self._request_id, self.param)

    def feed(self, events: bytes) -> bytes:
        """Return the message's events for complete events of a chat stream."""
        stream = self._stream
        if stream is None:
            stream = self._stream = MessageStream(self._model, self._stops)
            stream.request_id, stream.param, stream.receipt = self._request_id, self.param, self._receipt
        return stream.feed(events)

    def end(self, events: bytes) -> bytes:
        """Return the last events of a message."""
        return self.feed(events)

    def _receipt(self, receipt: msgspec.Raw) -> Any:
        return callers_receipt(receipt, self._places())
