"""The trace context of upstream requests: W3C `traceparent` and `tracestate`, and `baggage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.call import Call
    from providers.base import Target, WireRequest

_OF_THE_SPAN = ("traceparent", "tracestate")


def add_trace_headers(call: Call, target: Target, request: WireRequest) -> None:
    """Add the caller's baggage, and the context of the attempt's span if the call is traced, else the caller's context.

    Headers that the configuration sets are not replaced.
    """
    if call.headers is not None and call.headers.trace:
        configured = {name for name, _ in target.headers}
        own = _OF_THE_SPAN if call.trace is not None else ()
        request.headers += [header for header in call.headers.trace if header[0] not in configured and header[0] not in own]
    if call.trace is not None:
        call.trace.mark(request)
