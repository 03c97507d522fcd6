"""Counts the prompt tokens of a Messages or Responses request for the first target of the requested model.

If the provider has the same API, the provider counts the tokens. If it has another API or does not answer, the gateway
counts or estimates the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.attempts.hook_points import hook_request, hook_target
from gateway.call import Call
from gateway.errors import unreadable
from gateway.explain.read import read_call
from gateway.explain.request import DryRun
from gateway.native.count import count_natively
from gateway.native.request import check_expressible


async def count_tokens(run: DryRun, call: Call, source: bytes, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return the number of prompt tokens, and under `gateway` whether it is exact. Raise GatewayError if the request is invalid."""
    await run.storage.load_previous(call, source)
    model = read_call(call, source, headers, run.router, run.config, run.known)
    await hook_request(run.hooks, call)
    candidates = run.router.all_candidates(model)
    check_expressible(call, candidates)
    candidate = await hook_target(call, candidates)
    if (tokens := await count_natively(call, candidate)) is not None:
        details = {"count": "exact", "tokenizer": "provider", "target": candidate.backend.target.name}
        return {"input_tokens": tokens, "gateway": details}
    try:
        counted = await run.requests.count(call, candidate)
    except (ValueError, RecursionError) as error:
        raise unreadable(error) from None
    details = {
        "count": "exact" if counted.exact else "estimated",
        "tokenizer": counted.tokenizer,
        "target": candidate.backend.target.name,
    }
    return {"input_tokens": counted.tokens, "gateway": details}
