"""The state of a limit at the decision on a call, as a JSON value."""

from __future__ import annotations

import math
from typing import Any

from gateway.store.limit import NANO_PER_USD, LimitStatus

MAX_STATES = 32
"""Maximum number of limits of a call whose states are logged or recorded."""


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
