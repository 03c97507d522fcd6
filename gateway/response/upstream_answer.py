"""Reads an upstream's JSON answer or error, and collects a stream for a caller that did not request one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec
from msgspec import structs

from gateway.dialects.native_api import NativeApi
from gateway.streams.chunks import UNREADABLE_ERRORS
from gateway.streams.mended_json import mended
from gateway.streams.relay import Relay
from gateway.upstream.transport import Response, UpstreamError
from providers.aggregate import Aggregate
from providers.any_usage import usage_of_failure
from providers.base import Answer, AnswerShapeError, Failure, Operation, Options, StreamFailure, Target
from providers.failures import has_error, read_inband_failure
from providers.plain_usage import read_mapped

NOT_AN_ANSWER = Failure("bad_body", "the answer is not a chat completion")
NOT_EMBEDDINGS = Failure("bad_body", "the answer is not a list of embeddings")
NOT_RANKED = Failure("bad_body", "the answer is not a list of ranked documents")
_UNREADABLE: Mapping[Operation, Failure] = {
    "embeddings": NOT_EMBEDDINGS,
    "rerank": NOT_RANKED,
    "completions": Failure("bad_body", "the answer is not a completion"),
    "logits": Failure("bad_body", "the answer is not an object of tokens and logits"),
    "messages": Failure("bad_body", "the answer is not a message"),
    "responses": Failure("bad_body", "the answer is not a response"),
    "cohere_chat": Failure("bad_body", "the answer is not a message of Cohere's chat API"),
    "cohere_embed": NOT_EMBEDDINGS,
    "cohere_embed_v1": NOT_EMBEDDINGS,
}


def is_event_stream(response: Response) -> bool:
    """Return whether the response is declared as an event stream."""
    for name, value in response.headers:
        if name == b"content-type":
            return value.lstrip()[:17].lower() == b"text/event-stream"
    return False


async def read_failure(response: Response, target: Target, limit: int) -> Failure:
    """Return the failure of a response with an error status. At most `limit` bytes of its body are used."""
    body = b""
    with contextlib.suppress(UpstreamError):  # the status is known, so a truncated body is enough
        while len(body) < limit and (piece := await response.read()):
            body += piece
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    body = body[:limit]
    return target.kind.failure(response.status, headers, mended(body) or body, target)


async def read_json(
    response: Response, target: Target, options: Options, limit: int, native: NativeApi | None = None
) -> Answer:
    """Read a JSON answer, in the `native` API if it is given. Raise StreamFailure if it is an error or unreadable."""
    return decode_json(await response.body(limit), target, options, native)


def decode_json(body: bytes, target: Target, options: Options, native: NativeApi | None = None) -> Answer:
    """Decode a JSON answer as `read_json` does."""
    try:
        return _decode_json(body, target, options, native)
    except StreamFailure as failure:
        failure.usage = usage_of_failure(body)
        raise


def _decode_json(body: bytes, target: Target, options: Options, native: NativeApi | None) -> Answer:
    if body.find(b'"error"', 0, 512) >= 0:
        failure = _disguised(target, body)
        if failure is not None:
            raise StreamFailure(failure)

    try:
        if not body.isascii():
            body.decode()  # the JSON decoder does not check the encoding of skipped values
        return target.kind.decode(body, target, options) if native is None else native.read_answer(body)
    except UNREADABLE_ERRORS as error:
        repaired, reason = mended(body), _reason(error, body)
    try:
        if repaired is not None:
            return target.kind.decode(repaired, target, options) if native is None else native.read_answer(repaired)
    except UNREADABLE_ERRORS as error:
        reason = _reason(error, body)
    failure = _UNREADABLE.get(options.operation, NOT_AN_ANSWER)
    raise StreamFailure(structs.replace(failure, message=f"{failure.message}{reason}"))


def _reason(error: Exception, body: bytes) -> str:
    """Return why an answer is unreadable, as the end of a message. Return "" for an error that may repeat content of the answer."""
    if not body.strip():
        return ": it is empty"
    if isinstance(error, AnswerShapeError):
        return f": {error}"
    is_malformed = isinstance(error, msgspec.DecodeError | UnicodeDecodeError) and not isinstance(error, msgspec.ValidationError)
    return ": it is not valid JSON in UTF-8" if is_malformed else ""


async def read_unstreamed(response: Response, target: Target, limit: int) -> Failure:
    """Return the failure of a response with status 200 that is not the requested stream: usually an error."""
    body = await response.body(limit)
    return _disguised(target, body) or Failure("bad_body", "expected a text/event-stream response")


def _disguised(target: Target, body: bytes) -> Failure | None:
    """Return the failure in a body with status 200, if there is one."""
    return inband_failure(target, body) if has_error(body) else None


def inband_failure(target: Target, data: bytes) -> Failure:
    """Return the failure of an error object without an HTTP status of its own."""
    return read_inband_failure(data, lambda status, body: target.kind.failure(status, {}, body, target))


def collecting_relay(target: Target, options: Options) -> Relay:
    """Return a relay for a stream that becomes one JSON answer."""
    return Relay(
        decoder=target.kind.decoder(target, options),
        usage_asked=True,
        read_usage=read_mapped,
        fail=lambda data: inband_failure(target, data),
    )


async def collect_stream(response: Response, target: Target, relay: Relay) -> Answer:
    """Collect a stream into one JSON answer, for a provider that only streams."""
    if not is_event_stream(response):
        raise StreamFailure(await read_unstreamed(response, target, 1 << 20))
    whole = Aggregate()
    while not relay.done:
        piece = await response.read()
        if not piece:
            break
        _feed(whole, relay.feed(piece))
    _feed(whole, relay.end())
    response.finish(relay.discard)
    return Answer(whole.result(), relay.usage, relay.finish_reasons)


def _feed(whole: Aggregate, events: bytes) -> None:
    for event in events.split(b"\n\n"):
        if event:
            whole.feed(event[len(b"data: ") :])
