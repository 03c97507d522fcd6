"""Counts the tokens of a Messages request as the first target of its model would read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.attempts.read_request import read_parameters, read_request
from gateway.call import Call
from gateway.dialects.messages_api.dialect import MESSAGES, MessagesTranslator
from gateway.errors import Forbidden, unreadable
from gateway.explain.request import DryRun
from gateway.keys.virtual_key import VirtualKey, may_use


async def count_tokens(
    run: DryRun, path: str, source: bytes, headers: Sequence[tuple[bytes, bytes]], key: VirtualKey | None
) -> dict[str, Any]:
    """Return the tokens of the prompt, and under `gateway` whether the count is exact. Raise GatewayError."""
    call = Call("chat", path, MESSAGES, MessagesTranslator(counts=True), key=key)
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
