"""Counts the tokens of a prompt at a provider with the caller's API, with a request that generates nothing."""

from __future__ import annotations

from msgspec import structs

from gateway.call import Call
from gateway.dialects.forwarded_headers import forward_headers
from gateway.native.choice import native_api
from gateway.native.request import adapt_natively
from gateway.targets.candidate import Candidate
from gateway.upstream.transport import UpstreamError
from providers.base import Refusal

MAX_COUNT_S = 10.0
"""Maximum time for one count. If the provider takes longer, its count is not used."""
MAX_COUNT_BYTES = 64 << 10


async def count_natively(call: Call, candidate: Candidate) -> int | None:
    """Return the provider's count, or None if the call is not native at this candidate or no count arrives."""
    target = candidate.backend.target
    api = native_api(call, target, candidate.settings)
    if api is None or api.token_count is None or call.source is None:
        return None
    try:
        adapted = adapt_natively(call, call.source.copy(), api, target, strict=False)
        if call.headers is not None and call.headers.vendor:
            forward_headers(call.headers, target, adapted.body, strict=False)
        request = target.kind.encode(adapted.body, target, adapted.options)
        if call.hooks is not None:
            request.headers = call.hooks.arrange(request.headers)
        request.path += api.token_count.suffix
        deadlines = structs.replace(candidate.deadlines, total=min(candidate.deadlines.total, MAX_COUNT_S))
        response = await candidate.backend.transport.send(candidate.backend.origin, request, deadlines)
        try:
            return api.token_count.read(await response.body(MAX_COUNT_BYTES)) if response.status == 200 else None
        finally:
            response.close()
    except (UpstreamError, Refusal, ValueError):
        return None
