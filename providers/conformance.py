"""Conformance checks for providers. A plugin can run them in its own tests.

from providers.conformance import problems
assert problems(MY_PROVIDER) == []
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, get_args

import msgspec

from providers.base import LOSSY, Action, Adjustment, Body, FailureKind, Operation, Options, Provider, Refusal, Target, WireRequest
from providers.plugins import with_defaults

CREDENTIAL = "credential-that-must-stay-secret"
PLAIN: Mapping[str, Any] = {"model": "caller's-name", "messages": [{"role": "user", "content": "Hi"}]}
UNKNOWN = "unheard_of"
PARAMETERS: Mapping[str, Any] = {
    "temperature": 1.9,
    "top_p": 0.5,
    "top_k": 7,
    "min_p": 0.1,
    "seed": 7,
    "n": 1,
    "stop": "END",
    "max_tokens": 64,
    "max_completion_tokens": 64,
    "min_tokens": 2,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "repetition_penalty": 1.2,
    "logit_bias": {"5": 1},
    "logprobs": True,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "user": "u-1",
    "reasoning_effort": "low",
    "system_prompt": "Be brief.",
    "context_length_exceeded_behavior": "error",
    "timeout_microseconds": 1_000_000,
    UNKNOWN: 1,
}
"""One value per parameter. A provider must adapt a request with any one of them, or refuse it and name the parameter."""
NOT_ANSWERS = (b"", b"<html></html>", b"[]", b"{}", b"null", b'"text"', b'{"choices": 1}', b'{"choices"')
ERROR_BODIES = (
    b"",
    b"plain text " + CREDENTIAL.encode(),
    b"<html>502</html>",
    b"\xff\xfe\x00",
    b"[]",
    b"[1]",
    b"{}",
    b'{"error": null}',
    b'{"error": "text"}',
    b'{"error": {"message": 1, "code": [], "param": {}}}',
    b'{"error": {"message": "' + CREDENTIAL.encode() + b'", "type": "x", "code": "y", "param": "z"}}',
    b'{"message": "m"}',
    b'{"detail": [{"loc": ["body", "x"], "msg": "m"}]}',
    b'[{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [{"@type": "RetryInfo", "retryDelay": "x"}]}}]',
)
RETRY_AFTERS = ("1", "1.5", "-1", "nan", "1e999", "99999999999999", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT")


def problems(provider: Provider, model: str = "a-model", options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the violations of the contract of `providers.base`: an empty list if the provider conforms."""
    provider = with_defaults(provider)
    base = provider.default_base_url or "https://upstream.example/v1"
    target = Target(f"{provider.type}/{model}", provider.type, provider, model, base, CREDENTIAL, options=options or {})
    found: list[str] = []
    for check in CHECKS:
        found += check(provider, target)
    return found


def _body(extra: Mapping[str, Any]) -> Body:
    return Body(msgspec.json.encode({**PLAIN, **extra}))


def _check_fields(provider: Provider, target: Target) -> Iterator[str]:
    if not set(provider.operations) <= set(get_args(Operation)):
        yield f"operations contains an unknown operation: {sorted(provider.operations)}"
    if type(provider.caller_headers) is not tuple or any(name != name.lower() for name in provider.caller_headers):
        yield "caller_headers must be a tuple of lower-case header names"
    if type(provider.always_streams) is not bool:
        yield "always_streams must be a bool"
    if provider.prefill is not None and not isinstance(provider.prefill, Mapping):
        yield "prefill must be a mapping of request fields, or None"
    if provider.probabilities is not None and not callable(provider.probabilities):
        yield "probabilities must be a method, or None"
    yield from (f"probe_headers: {problem}" for problem in _check_headers(provider.probe_headers(target)))


def _check_headers(headers: list[tuple[str, str]]) -> Iterator[str]:
    names = {name for name, _ in headers}
    if any(name != name.lower() for name in names):
        yield "header names must be lower case"
    if {"host", "content-length", "accept-encoding"} & names:
        yield "host, content-length and accept-encoding belong to the transport"
    if any("\n" in value or "\r" in value for _, value in headers):
        yield "a header value has a line break"


def _check_requests(provider: Provider, target: Target) -> Iterator[str]:
    for stream in (False, True):
        for extra in ({}, *({name: value} for name, value in PARAMETERS.items())):
            options = Options(stream=stream)
            body = _body({**extra, **({"stream": True} if stream else {})})
            try:
                provider.adapt(body, target, options)
                chain = provider.chained(body.copy(), options)
                request = provider.encode(body, target, options)
            except Refusal as refusal:
                if not extra:
                    yield "a request without optional parameters is refused"
                elif refusal.param is None:
                    yield f"{sorted(extra)}: refused in lenient mode without naming a parameter"
                continue
            if chain is not None and not isinstance(chain, Generator):
                yield f"{sorted(extra)}: chained must return a generator of bodies, or None"
            yield from (f"{sorted(extra)}: {problem}" for problem in _check_request(request, target))


def _check_request(request: WireRequest, target: Target) -> Iterator[str]:
    sent = msgspec.json.decode(request.body)
    if not request.path.startswith("/"):
        yield f"the path {request.path!r} is not absolute"
    yield from _check_headers(request.headers)
    if CREDENTIAL.encode() in request.body or CREDENTIAL in request.path:
        yield "the credential is outside the headers"
    if "model" in sent and sent["model"] != target.model:
        yield f"model is {sent['model']!r}, not the target's"


def _check_strict_mode(provider: Provider, target: Target) -> Iterator[str]:
    """Strict mode must refuse what lenient mode refuses, and an unknown parameter that lenient mode drops."""
    for name, value in PARAMETERS.items():
        try:
            adjustments = provider.adapt(_body({name: value}), target, Options())
        except Refusal:
            adjustments = None
        if adjustments is not None:
            yield from (
                f"{name}: unknown action {adjustment.action!r}" for adjustment in adjustments if adjustment.action not in get_args(Action)
            )
        if adjustments is not None and not (name == UNKNOWN and _is_lost(name, adjustments)):
            continue
        try:
            provider.adapt(_body({name: value}), target, Options(strict=True))
        except Refusal as refusal:
            if not refusal.message or not refusal.code:
                yield f"{name}: a refusal needs a message and a code"
        else:
            yield f"{name}: refused or lost in lenient mode, accepted in strict mode"


def _is_lost(param: str, adjustments: list[Adjustment]) -> bool:
    return any(adjustment.action in LOSSY and adjustment.param == param for adjustment in adjustments)


def _check_answers(provider: Provider, target: Target) -> Iterator[str]:
    for body in NOT_ANSWERS:
        try:
            provider.decode(body, target, Options())
        except ValueError:
            continue
        except Exception as error:
            yield f"decode({body!r}) raises {type(error).__name__} instead of ValueError"
        else:
            yield f"decode({body!r}) accepts a body that is not an answer"


def _check_decoders(provider: Provider, target: Target) -> Iterator[str]:
    first, second = (provider.decoder(target, Options(stream=True)) for _ in range(2))
    if first is not None and first is second:
        yield "two streams share one decoder"
    if first is not None and not (hasattr(first, "end") and all(isinstance(chunk, bytes) for chunk in first.end())):
        yield "a decoder needs a method end() that returns chunks as bytes"


def _check_failures(provider: Provider, target: Target) -> Iterator[str]:
    for status in (302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 498, 500, 502, 503, 504, 529, 599):
        for body in ERROR_BODIES:
            yield from (f"failure({status}, {body[:30]!r}): {problem}" for problem in _check_failure(provider, target, status, {}, body))
    for value in RETRY_AFTERS:
        yield from (f"retry-after {value!r}: {problem}" for problem in _check_failure(provider, target, 429, {"retry-after": value}, b"{}"))


def _check_failure(provider: Provider, target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    try:
        failure = provider.failure(status, headers, body, target)
    except Exception as error:
        yield f"raises {type(error).__name__}"
        return
    if failure.kind not in get_args(FailureKind):
        yield f"unknown kind {failure.kind!r}"
    if not failure.message or len(failure.message) > 2_000:
        yield "the message is empty or too long"
    if CREDENTIAL in failure.message:
        yield "the credential is in the message"
    for word in (failure.code, failure.param, failure.type):
        if word is not None and type(word) is not str:
            yield f"{word!r} is not a string"
    if failure.retry_after is not None and not 0 <= failure.retry_after <= 86_400:
        yield f"retry_after is {failure.retry_after}, not 0 to 86400 s"


def _check_capabilities(provider: Provider, target: Target) -> Iterator[str]:
    table = provider.capabilities(target.model)
    try:
        msgspec.json.encode(table)
    except TypeError:
        yield "capabilities cannot be encoded as JSON"
    for name, entry in table.items():
        if entry.get("support") not in ("yes", "adjusted", "no", "passed"):
            yield f"capabilities[{name!r}] has no valid support"


CHECKS = (_check_fields, _check_requests, _check_strict_mode, _check_answers, _check_decoders, _check_failures, _check_capabilities)
