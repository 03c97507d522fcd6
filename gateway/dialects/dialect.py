"""The interfaces of a dialect (an API that callers use) and of its translator, and the class of most dialects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.dialects.native_api import NativeApi
from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest, Headers
from providers.base import Adjustment, Body, Operation, Refusal, StreamDecoder, Target


class Translator(Protocol):
    """Translates one call of another API to a chat completion or an embeddings request, and back.

    A translator keeps the state of one call and does no I/O. It works between the caller and the pipeline, which handles
    only the translated request. The translators of rerank change only defaults, answers and errors.
    """

    adjustments: list[Adjustment]
    """The changes that `request` made to the caller's request."""
    refusal: BadRequest | None
    """The reason why only native attempts can send the request: OpenAI's format cannot express it. None if there is no reason."""
    loss: BadRequest | None
    """The error for the first field that `request` left out, which strict attempts refuse. None if every field was translated."""
    used_headers: frozenset[str]
    """Request headers that belong to this API. A target that does not define them causes no adjustment."""

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the translated body. Raise BadRequest for an invalid body.

        If OpenAI's format cannot express the request, or in strict mode a field of it, set `refusal`.
        """
        ...

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Make the changes that depend on the target, before the target's rules apply. Return the adjustments.

        Raise Refusal if the target cannot honour the request.
        """
        ...

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter of the translated request, for errors and receipts."""
        ...

    def headers(self, headers: Headers) -> Headers:
        """Return the response headers as this API names them."""
        ...

    def answer(self, answer: bytes) -> bytes:
        """Return a JSON answer, which may include a receipt under `gateway`, in this API's format."""
        ...

    def error(self, status: int, body: bytes) -> bytes:
        """Return OpenAI's error object in this API's format."""
        ...

    def feed(self, events: bytes) -> bytes:
        """Return this API's events for complete events of a chat stream or for a comment."""
        ...

    def end(self, events: bytes) -> bytes:
        """Return this API's events for the last events of a chat stream, which include [DONE] or an error."""
        ...


def request_id_of(headers: Headers) -> str:
    """Return the call's id in the headers of a response, or ""."""
    for name, value in headers:
        if name == b"x-request-id":  # usually the first one
            return value.decode("latin-1")
    return ""


class Dialect(Protocol):
    """One API of the gateway.

    To add an API, write an object with these members and add it to `gateway.dialects.table.DIALECTS`.
    """

    @property
    def operation(self) -> Operation:
        """The operation that is requested from providers."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the API, all for POST."""
        ...

    @property
    def has_messages(self) -> bool:
        """Whether a request is a conversation, which can be fitted into a context window and always uses tokens."""
        ...

    @property
    def can_continue(self) -> bool:
        """Whether a broken stream can be continued by another attempt."""
        ...

    @property
    def native(self) -> NativeApi | None:
        """The description of native attempts for this API, or None if no attempt is native."""
        ...

    def check(self, body: Body) -> None:
        """Check the parameters of a request. Raise BadRequest for the first invalid one."""
        ...

    def translator(self) -> Translator | None:
        """Return the translator of one call, or None if callers of this API use OpenAI's format."""
        ...

    def response(self, answer: bytes) -> bytes:
        """Return a JSON answer in the form that callers of this API expect."""
        ...

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Return a decoder that converts chunks to this API's format, after `inner` (if any) has decoded the events."""
        ...


class PlainDialect:
    """A dialect in OpenAI's format, or one whose calls are translated to it and back."""

    __slots__ = ("_check", "_new_translator", "can_continue", "has_messages", "native", "operation", "paths")

    def __init__(
        self,
        operation: Operation,
        paths: tuple[str, ...],
        *,
        has_messages: bool,
        can_continue: bool,
        check: Callable[[Body], None] = check_parameters,
        new_translator: Callable[[], Translator] | None = None,
        native: NativeApi | None = None,
    ) -> None:
        """`new_translator` returns the translator of one call. `new_translator` is None if callers use OpenAI's format."""
        self.operation: Operation = operation
        self.paths = paths
        self.has_messages = has_messages
        self.can_continue = can_continue
        self._check = check
        self._new_translator = new_translator
        self.native = native

    def check(self, body: Body) -> None:
        """Check the parameters of a request. Raise BadRequest for the first invalid one."""
        self._check(body)

    def translator(self) -> Translator | None:
        """Return the translator of one call, or None if callers use OpenAI's format."""
        return None if self._new_translator is None else self._new_translator()

    def response(self, answer: bytes) -> bytes:
        """Return the answer as it is. The translator, if any, gets the answer later."""
        return answer

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Return `inner`: the chunks stay as they are. The translator, if any, gets the chunks later."""
        return inner


def in_callers_terms(refusal: Refusal, translator: Translator | None) -> Refusal:
    """Return the refusal with the caller's name for its parameter, also in the message."""
    if refusal.param is None or translator is None or (name := translator.param(refusal.param)) == refusal.param:
        return refusal
    return Refusal(refusal.message.replace(f"'{refusal.param}", f"'{name}"), name, refusal.code)
