"""Cohere's chat API in the table of dialects: the translator of one call."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.cohere_api.answer import translate_answer
from gateway.dialects.cohere_api.documents import fit_documents
from gateway.dialects.cohere_api.errors import translate_error
from gateway.dialects.cohere_api.names import Names
from gateway.dialects.cohere_api.request import translate_request
from gateway.dialects.cohere_api.stream import CohereStream
from gateway.errors import BadRequest, Headers
from providers.base import Adjustment, Body, Target

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class CohereChatTranslator:
    """Translates one call of Cohere's chat API."""

    refusal: BadRequest | None = None
    used_headers: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.adjustments: list[Adjustment] = []
        self._stops: tuple[str, ...] = ()
        self._names = Names()
        self._request_id = ""
        self._stream: CohereStream | None = None

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the chat completion for a request. Raise BadRequest for an invalid request."""
        body, self.adjustments = translate_request(source)
        self._names = Names(_decode(source).get("messages"))
        stops = _decode(body).get("stop")
        self._stops = tuple(stop for stop in stops if type(stop) is str) if type(stops) is list else ()
        return body

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Fit the documents to a target."""
        return fit_documents(body, target, strict=strict)

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter."""
        return self._names.of(name)

    def headers(self, headers: Headers) -> Headers:
        """Return the headers as they are, and keep the request id for errors."""
        self._request_id = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
        return headers

    def answer(self, answer: bytes) -> bytes:
        """Return Cohere's answer for a chat answer."""
        return translate_answer(answer, self._stops)

    def error(self, status: int, body: bytes) -> bytes:
        """Return Cohere's error: an object with `message`."""
        return translate_error(body, self._request_id, self.param)

    def feed(self, events: bytes) -> bytes:
        """Return Cohere's events for complete events of a chat stream."""
        if self._stream is None:
            self._stream = CohereStream(self._stops)
        return self._stream.feed(events)

    def end(self, events: bytes) -> bytes:
        """Return the last events of a stream."""
        return self.feed(events)
