"""Counts the tokens of a Messages request as the first target of its model would read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.call import Call
from gateway.dialects.messages_api.dialect import MESSAGES, MessagesTranslator
from gateway.errors import unreadable
from gateway.explain.read import read_call
from gateway.explain.request import DryRun
from gateway.keys.virtual_key import VirtualKey


async def count_tokens(
    run: DryRun, path: str, source: bytes, headers: Sequence[tuple[bytes, bytes]], key: VirtualKey | None
) -> dict[str, Any]:
    """Return the tokens of the prompt, and under `gateway` whether the count is exact. Raise GatewayError."""
    call = Call("chat", path, MESSAGES, MessagesTranslator(counts=True), key=key)
    model = read_call(call, source, headers, run.router, run.config, run.known)
    candidate = run.router.all_candidates(model)[0]
    try:
        counted = await run.requests.count(call, candidate)
    except (msgspec.DecodeError, ValueError) as error:
        raise unreadable(error) from None
    details = {
        "count": "exact" if counted.exact else "estimated",
        "tokenizer": counted.tokenizer,
        "target": candidate.backend.target.name,
    }
    return {"input_tokens": counted.tokens, "gateway": details}
