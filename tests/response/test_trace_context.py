"""The trace context of upstream requests with and without spans of the gateway."""

from __future__ import annotations

from typing import Any, cast

import providers
from gateway.call import Call, CallTrace
from gateway.dialects.request_headers import known_headers, read_headers
from gateway.response.trace_context import add_trace_headers
from providers.base import Target, WireRequest

HEADERS = [(b"traceparent", b"00-a-b-01"), (b"tracestate", b"v=1"), (b"baggage", b"k=v")]


class OwnSpan:
    """A trace whose attempts have a span."""

    def mark(self, request: WireRequest) -> None:
        request.headers.append(("traceparent", "own"))


def sent(trace: Any = None, configured: tuple[tuple[str, str], ...] = ()) -> list[tuple[str, str]]:
    call = Call("chat", "/", headers=read_headers(HEADERS, known_headers()), trace=cast("CallTrace", trace))
    request = WireRequest("/", [], b"")
    add_trace_headers(call, Target("t/m", "t", providers.get("openai"), "m", "http://t", headers=configured), request)
    return request.headers


def test_without_spans_the_callers_context_is_forwarded() -> None:
    assert sent() == [("traceparent", "00-a-b-01"), ("tracestate", "v=1"), ("baggage", "k=v")]


def test_with_spans_only_the_baggage_is_the_callers() -> None:
    assert sent(OwnSpan()) == [("baggage", "k=v"), ("traceparent", "own")]


def test_headers_of_the_configuration_are_not_repeated() -> None:
    assert [name for name, _ in sent(configured=(("baggage", "x=y"),))] == ["traceparent", "tracestate"]
