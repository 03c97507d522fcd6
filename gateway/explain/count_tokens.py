"""Counts the tokens of a request of another API as the first target of its model would read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.attempts.read_request import read_parameters, read_request
from gateway.call import Call
from gateway.errors import Forbidden, GatewayError, unreadable
from gateway.explain.request import DryRun
from gateway.keys.virtual_key import may_use


async def count_tokens(run: DryRun, call: Call, source: bytes, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return the tokens of the prompt of a call, and under `gateway` whether the count is exact. Raise GatewayError."""
    try:
        return await _count(run, call, source, headers)
    except GatewayError as error:
        if error.param is not None and call.translator is not None:
            ours = call.translator.param(error.param)
            error.message = error.message.replace(f"'{error.param}'", f"'{ours}'")
            error.param = ours
        raise


async def _count(run: DryRun, call: Call, source: bytes, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    key = call.key
    try:
        read_request(call, headers, source, run.known, strict=run.config.strict)
        model = run.router.find(call.model)
        if not may_use(key, call.model):
            message = f"The key '{key.name if key else ''}' may not use the model '{model.name}'."
            raise Forbidden(message, param="model")
        read_parameters(call)
        candidate = run.router.all_candidates(model)[0]
        counted = await run.requests.count(call, candidate)
    except msgspec.DecodeError as error:
        raise unreadable(error) from None
    details = {
        "count": "exact" if counted.exact else "estimated",
        "tokenizer": counted.tokenizer,
        "target": candidate.backend.target.name,
    }
    return {"input_tokens": counted.tokens, "gateway": details}
