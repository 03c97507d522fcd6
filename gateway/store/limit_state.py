"""The state of a limit at the decision on a call, as a JSON value."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import msgspec

from gateway.store.limit import NANO_PER_USD, Limit, LimitStatus

MAX_STATES = 32
"""Maximum number of limits of a call whose states are logged or recorded."""
_encode = msgspec.json.Encoder().encode


def limit_state(status: LimitStatus, reserved: int | None, *, refused: bool = False) -> dict[str, Any]:
    """Return the used, the reserved and the whole amount of a limit, and the seconds until it is reset.

    Money is in USD. `reserved` is left out if it is None, `reset_s` is null for a `total` budget, and only the limit that
    refused the call is marked.
    """
    limit, unit = status.limit, NANO_PER_USD if status.limit.kind == "spend" else 1
    state: dict[str, Any] = {"limit": str(limit), "owner": limit.owner}
    if limit.model:
        state["model"] = limit.model
    state["used"] = (limit.amount - status.remaining) / unit if unit > 1 else limit.amount - status.remaining
    if reserved is not None:
        state["reserved"] = reserved / unit if unit > 1 else reserved
    state["amount"] = limit.amount / unit if unit > 1 else limit.amount
    state["reset_s"] = None if math.isinf(status.reset_s) else round(status.reset_s, 3)
    if refused:
        state["refused"] = True
    return state


def encoded_state(status: LimitStatus) -> str:
    """Return the state of a limit that admitted a call as JSON, with the same fields as `limit_state`.

    The usual state is written without a dictionary, because every call has the states of all its limits.
    """
    limit, reset_s = status.limit, status.reset_s
    if limit.kind == "spend" or status.reserved is not None or not 0.001 <= reset_s < 1e9:
        return _encode(limit_state(status, status.reserved)).decode()
    before, after = _fixed_parts(limit)
    return f"{before}{limit.amount - status.remaining}{after}{_rounded(reset_s)}}}"


@lru_cache(4096)
def _fixed_parts(limit: Limit) -> tuple[str, str]:
    """Return the parts of the state of a limit before and after the used amount, as JSON. They are the same for all calls."""
    names = {"limit": str(limit), "owner": limit.owner, **({"model": limit.model} if limit.model else {})}
    return f'{_encode(names)[:-1].decode()},"used":', f',"amount":{limit.amount},"reset_s":'


@lru_cache(256)
def _rounded(seconds: float) -> str:
    """Return seconds, rounded, as JSON. They are the same for all calls that are decided together."""
    return str(round(seconds, 3))
