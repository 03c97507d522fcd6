"""The Responses API in the table of dialects."""

from __future__ import annotations

from gateway.dialects.file_addresses import refuse_addresses
from gateway.dialects.responses_api.answer import to_response
from gateway.dialects.responses_api.errors import Names, error_event, to_error
from gateway.dialects.responses_api.request import InexpressibleError, RequestReader
from gateway.dialects.responses_api.stored import input_items
from gateway.dialects.responses_api.stream import ResponseStream
from gateway.dialects.responses_api.values import Raw
from gateway.errors import BadRequest, Headers
from providers.base import Adjustment, Body, Target


class ResponsesTranslator:
    """Translates one call of the Responses API to a chat completion and back."""

    used_headers = frozenset({"openai-beta"})
    _request: RequestReader
    """Set by `request`."""

    def __init__(self) -> None:
        self.adjustments: list[Adjustment] = []
        self.refusal: BadRequest | None = None
        self.earlier: list[Raw] | None = None
        """The items of the conversation that the request continues; None if it continues none."""
        self._names: Names | None = None
        self._stream: ResponseStream | None = None

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the body of the chat completion. Raise BadRequest for an invalid body."""
        self._request = request = RequestReader(strict=strict, earlier=self.earlier)
        self.adjustments = request.changes.made
        try:
            body = request.read(source)
        except InexpressibleError as error:
            self.refusal = error
            return request.outline()
        self._names = Names(request.given, request.conversation.origins, request.tools.origins)
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
        """Return the caller's name for a parameter of the chat completion."""
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
