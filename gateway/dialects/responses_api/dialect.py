"""The Responses API in the table of dialects."""

from __future__ import annotations

from gateway.dialects.file_addresses import refuse_addresses
from gateway.dialects.plain_request import translate_plain
from gateway.dialects.responses_api.answer import to_response
from gateway.dialects.responses_api.errors import Names, error_event, to_error
from gateway.dialects.responses_api.request import PLAIN, InexpressibleError, RequestReader
from gateway.dialects.responses_api.stored import input_items
from gateway.dialects.responses_api.stream import ResponseStream
from gateway.dialects.responses_api.values import Raw
from gateway.errors import BadRequest, Headers
from providers.base import Adjustment, Body, Target


class ResponsesTranslator:
    """Translates one call of the Responses API to a chat completion and back."""

    used_headers = frozenset({"openai-beta"})
    refusal: BadRequest | None = None
    loss: BadRequest | None = None
    earlier: list[Raw] | None = None
    """The items of the conversation that the request continues; None if it continues none."""
    _reader: RequestReader | None = None
    _unread = b""
    """The usual request, which is read when its parts are first needed."""
    _given_names: Names | None = None
    _stream: ResponseStream | None = None

    def __init__(self) -> None:
        self.adjustments: list[Adjustment] = []

    def plain_request(self, given: Body) -> Body | None:
        """Return the chat completion for the usual request, or None for any other request."""
        plain = translate_plain(given, PLAIN) if self.earlier is None else None
        if plain is None:
            return None
        self._unread = given.encode()
        return plain.body

    @property
    def has_texts_only(self) -> bool:
        """Whether the conversation consists of texts, without calls and reasoning."""
        return bool(self._unread)

    @property
    def _request(self) -> RequestReader:
        """The request as `request` reads it."""
        if self._reader is None:
            self.request(self._unread, strict=False)
            assert self._reader is not None
        return self._reader

    @property
    def _names(self) -> Names | None:
        """The caller's names for the parameters; None if the request is not translated."""
        if self._reader is None and self._unread:
            self.request(self._unread, strict=False)
        return self._given_names

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the body of the chat completion. Raise BadRequest for an invalid body."""
        self._reader = request = RequestReader(strict=strict, earlier=self.earlier)
        self.adjustments = request.changes.made
        try:
            body = request.read(source)
        except InexpressibleError as error:
            self.refusal = error
            return request.outline()
        self.loss = request.changes.first_loss
        self._given_names = Names(request.given, request.conversation.origins, request.tools.origins)
        return body

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Refuse addresses of files unless the target fetches files. Nothing else in the body depends on the target."""
        refuse_addresses(self._request.changes.file_addresses, target, "send the file in 'file_data'")
        return []

    @property
    def response_id(self) -> str:
        """The id under which the response is stored, if the caller wants it stored."""
        return f"resp_{self._request.base}"

    def items(self) -> list[Raw]:
        """Return all items of the conversation before the response, those of earlier turns first."""
        return [*(self.earlier or ()), *input_items(self._request.input)]

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter of the chat completion. The parameter of `loss` already has that name."""
        if self.loss is not None and name == self.loss.param:
            return name
        return self._names.of(name) if self._names is not None else name

    def headers(self, headers: Headers) -> Headers:
        """Return the headers as they are: both APIs have the same headers."""
        return headers

    def answer(self, answer: bytes) -> bytes:
        """Return the response for a chat completion."""
        return to_response(answer, self._request)

    def error(self, status: int, body: bytes) -> bytes:
        """Return an error with the caller's names for the parameters."""
        return to_error(body, self._names) if self._names is not None else body

    def feed(self, events: bytes) -> bytes:
        """Return the events of this API for complete events of a chat stream."""
        return self._events().feed(events)

    def end(self, events: bytes) -> bytes:
        """Return the last events of the stream. An error after the provider's own events is a single `error` event."""
        if self._stream is None and events.startswith(b'data: {"error":'):
            return error_event(events)
        return self._events().end(events)

    def _events(self) -> ResponseStream:
        if self._stream is None:
            self._stream = ResponseStream(self._request)
        return self._stream
