"""Cohere's chat API in the table of dialects: the translator of one call."""

from __future__ import annotations

from typing import Any

from gateway.dialects.cohere_api.answer import translate_answer
from gateway.dialects.cohere_api.documents import fit_documents
from gateway.dialects.cohere_api.errors import translate_error
from gateway.dialects.cohere_api.names import Names
from gateway.dialects.cohere_api.request import PLAIN, decode, encode, translate_fields
from gateway.dialects.cohere_api.stream import CohereStream
from gateway.dialects.dialect import request_id_of
from gateway.dialects.plain_request import translate_plain
from gateway.errors import BadRequest, Headers
from providers.base import Adjustment, Body, Target


class CohereChatTranslator:
    """Translates one call of Cohere's chat API."""

    refusal: BadRequest | None = None
    loss: BadRequest | None = None
    used_headers: frozenset[str] = frozenset()
    _messages: Any = ()
    """The messages of the request, for the caller's names in errors."""
    _stops: tuple[str, ...] = ()
    _request_id = ""
    _stream: CohereStream | None = None

    def __init__(self) -> None:
        self.adjustments: list[Adjustment] = []

    def plain_request(self, given: Body) -> Body | None:
        """Return the chat completion for the usual request, or None for any other request."""
        plain = translate_plain(given, PLAIN)
        if plain is None:
            return None
        self._messages = [{}] * plain.turns  # names depend only on reasoning and parts, which these messages do not have
        if "stop_sequences" in given:
            self._stops = _texts(given.get("stop_sequences"))
        return plain.body

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the chat completion for a request. Raise BadRequest for an invalid request."""
        given = decode(source)
        body, self.adjustments = translate_fields(given)
        self._messages, self._stops = given.get("messages"), _texts(body.get("stop"))
        return encode(body)

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Fit the documents to a target."""
        return fit_documents(body, target, strict=strict)

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter."""
        return Names(self._messages).of(name)

    def headers(self, headers: Headers) -> Headers:
        """Return the headers as they are, and keep the request id for errors."""
        self._request_id = request_id_of(headers)
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


def _texts(stops: Any) -> tuple[str, ...]:
    return tuple(stop for stop in stops if type(stop) is str) if type(stops) is list else ()
