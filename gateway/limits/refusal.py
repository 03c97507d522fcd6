"""Responses about limits: the 429 or 503 error of a refused call, and the rate-limit headers of calls that have limits."""

from __future__ import annotations

import math
import random
from functools import lru_cache

from gateway.errors import Headers, LimitReached, Unavailable, retry_after_headers
from gateway.store.limit import TOKEN_KINDS, WINDOW_S, Limit, LimitStatus, Refusal, Reservation

DEGRADED = (b"x-gateway-limits", b"degraded")
UNNAMED = "-"
"""The last part of the owner's name in the limits per user that apply to calls without an end user."""
NO_RETRY = (b"x-should-retry", b"false")
RETRY_JITTER = 0.1
"""Upper bound of the random share that is added to Retry-After, so that refused callers do not all retry at the same time."""
_CAP = "Lower 'max_tokens'."
_LESS_INPUT = "Send less input."
_PROMPT_KINDS = TOKEN_KINDS - {"tokens", "output_tokens"}
MAX_CLIENT_WAIT_S = 60.0
"""OpenAI's clients ignore a longer Retry-After and retry soon, or give up."""


_REQUEST_HEADERS, _TOKEN_HEADERS = (
    tuple(b"x-ratelimit-%b-%b" % (field, word) for field in (b"limit", b"remaining", b"reset")) for word in (b"requests", b"tokens")
)


def refusal_error(refusal: Refusal, *, has_output: bool = True) -> LimitReached | Unavailable:
    """Return the error of a refused call in OpenAI's wording: the limit that refused it, and when to retry.

    `has_output` is False for operations without output tokens, such as embeddings.
    """
    limit = refusal.limit
    whose = _owner(limit)
    if refusal.unavailable:
        text = f"The limit of {limit} for {whose} cannot be checked: the store is unavailable."
        return Unavailable(text, code="limiter_unavailable", retry_after=refusal.retry_after or 1.0)
    if refusal.retry_after is None:
        text = f"This request alone exceeds the limit of {limit} for {whose}. {_advice(limit, has_output=has_output)}"
        return LimitReached(text, type=_type(limit), code=_code(limit), headers=(NO_RETRY,))
    wait = told_wait(refusal)
    headers: Headers = () if wait is None else retry_after_headers(wait)
    retry = "" if wait is None else f"Please try again in {go_duration(wait)}."
    if refusal.busy:
        what = "remaining budget" if limit.kind == "spend" else "rest of the limit"
        text = f"The {what} of {limit} for {whose} is reserved by calls in flight. {retry}"
        type = "tokens" if limit.kind in TOKEN_KINDS else "requests"
        return LimitReached(text, type=type, code="rate_limit_exceeded", headers=headers)
    if limit.kind == "spend":
        headers = (*headers, NO_RETRY)
        has_rest = any(status.limit is limit and status.remaining > 0 for status in refusal.statuses)
        text = f"The budget of {limit} for {whose} is used up."
        if has_rest:
            text = f"The remaining budget of {limit} for {whose} does not cover this request. {_CAP if has_output else _LESS_INPUT}"
    else:
        text = f"Rate limit reached for {whose}: {limit}. {retry}"
    return LimitReached(text, type=_type(limit), code=_code(limit), headers=headers)


def told_wait(refusal: Refusal) -> float | None:
    """Return the seconds after which the caller may retry, or None if no wait helps.

    A random share is added to every wait except that for a new budget period, so that refused callers do not all retry at the
    same time. The share does not extend the wait beyond the reset of the limit. It does not extend a wait of at most MAX_CLIENT_WAIT_S
    beyond MAX_CLIENT_WAIT_S either. The wait for a window never exceeds the length of the window, although its charges count for
    one more slot. A call in flight may end at any time, so a wait for its end is not longer than the time until the reset.
    """
    wait, limit = refusal.retry_after, refusal.limit
    if wait is None or math.isinf(wait):
        return None
    if limit.kind == "spend" and not refusal.busy:
        return wait
    bounds = [wait * (1 + RETRY_JITTER * random.random())]
    if wait <= MAX_CLIENT_WAIT_S:
        bounds.append(MAX_CLIENT_WAIT_S)
    if limit.window in WINDOW_S:
        bounds.append(WINDOW_S[limit.window])
    reset_s = _reset_s(refusal)
    if reset_s is not None:
        bounds.append(reset_s if refusal.busy else max(wait, reset_s))
    return min(bounds)


def _reset_s(refusal: Refusal) -> float | None:
    """Return the seconds until the reset of the limit that refused a call. Return None if they are unknown."""
    if refusal.reset_s is not None:
        return refusal.reset_s
    return next((status.reset_s for status in refusal.statuses if status.limit is refusal.limit and status.reset_s), None)


def _owner(limit: Limit) -> str:
    """Return the owner of a limit in words, and the model or pattern to which the limit applies."""
    kind, _, name = limit.owner.partition(":")
    whose = f"the {kind} '{name}'"
    if kind == "user":
        whose = "calls that name no end user" if name.endswith(f":{UNNAMED}") else "this user"
    return f"{whose} and the model '{limit.model}'" if limit.model else whose


def _advice(limit: Limit, *, has_output: bool) -> str:
    """Return what makes a request fit into a limit: a lower output cap, less input, or both."""
    if not has_output:
        return _LESS_INPUT
    if limit.kind == "output_tokens":
        return _CAP
    return "Shorten the prompt." if limit.kind in _PROMPT_KINDS else "Lower 'max_tokens' or shorten the prompt."


def _type(limit: Limit) -> str:
    if limit.kind == "spend":
        return "insufficient_quota"
    return "tokens" if limit.kind in TOKEN_KINDS else "requests"


def _code(limit: Limit) -> str:
    return "insufficient_quota" if limit.kind == "spend" else "rate_limit_exceeded"


def rate_limit_headers(decision: Reservation | Refusal) -> Headers:
    """Return OpenAI's rate-limit headers for the tightest limit on requests and the tightest limit on tokens.

    The tightest limit is the one that refuses the call, else the one with the smallest remaining amount. Of several such
    limits, it is the one that is reset last. A decision without the store also has the header DEGRADED.
    """
    refusing = decision.limit if isinstance(decision, Refusal) else None
    requests: LimitStatus | None = None
    tokens: LimitStatus | None = None
    for status in decision.statuses:
        kind = status.limit.kind
        if kind == "requests":
            requests = status if requests is None else _tighter(requests, status, refusing)
        elif kind in TOKEN_KINDS:
            tokens = status if tokens is None else _tighter(tokens, status, refusing)
    headers: list[tuple[bytes, bytes]] = []
    for names, tightest in ((_REQUEST_HEADERS, requests), (_TOKEN_HEADERS, tokens)):
        if tightest is not None:
            headers.append((names[0], b"%d" % tightest.limit.amount))
            headers.append((names[1], b"%d" % tightest.remaining))
            headers.append((names[2], _reset_value(tightest.reset_s)))
    if decision.degraded:
        headers.append(DEGRADED)
    return headers


def _tighter(first: LimitStatus, second: LimitStatus, refusing: Limit | None) -> LimitStatus:
    return min(first, second, key=lambda status: (status.limit is not refusing, status.remaining, -status.reset_s))


@lru_cache(256)
def _reset_value(seconds: float) -> bytes:
    """Return the value of a header for the seconds until a limit is reset. They are the same for all calls that are decided together."""
    return go_duration(seconds).encode()


def go_duration(seconds: float) -> str:
    """Format a duration as in OpenAI's headers and in Go: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    ms = round(seconds * 1000)
    if ms < 1000:
        return f"{max(0, ms)}ms"
    whole, ms = divmod(ms, 1000)
    rest = f"{whole % 60}.{ms:03d}".rstrip("0") + "s" if ms else f"{whole % 60}s"
    if whole < 60:
        return rest
    return f"{whole // 3600}h{whole // 60 % 60}m{rest}" if whole >= 3600 else f"{whole // 60}m{rest}"
