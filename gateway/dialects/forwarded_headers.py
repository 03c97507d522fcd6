"""Forwards the headers of a call that a provider defines, and reports those that the target does not get."""

from __future__ import annotations

from gateway.dialects.request_headers import CallerHeaders
from providers.base import Adjustment, Body, Refusal, Target
from providers.rules.request_headers import CHOICES, NOT_REPORTED, SETTINGS_THAT_WIN, VENDOR_HEADERS

MAX_HEADER_CHARS = 8192


def forward_headers(headers: CallerHeaders, target: Target, body: Body, *, strict: bool) -> list[Adjustment]:
    """Add to an adapted body the caller's headers that the target gets, and report the headers that are lost.

    In strict mode, raise Refusal for the first header that is lost.
    """
    lost: list[Adjustment] = []
    for name, value in headers.vendor.items():
        if name in target.kind.caller_headers or name in target.forward_headers:
            why = _obstacle(name, value, target, body)
            if why is None:
                body.headers[name] = value
                continue
        elif name in NOT_REPORTED or name in headers.used:
            continue
        else:
            why = f"{target.provider} defines no such header"
            if name not in VENDOR_HEADERS:
                why = f"it is unknown; 'forward_headers' of {target.provider} can forward it"
        if not why:
            continue
        if strict:
            message = f"The header '{name}' cannot be forwarded to {target.name}: {why}."
            raise Refusal(message, name, "unsupported_parameter")
        lost.append(Adjustment(name, "drop", why=f"header not forwarded: {why}"))
    return lost


def _obstacle(name: str, value: str, target: Target, body: Body) -> str | None:
    """Return the reason why a header that the target defines is not forwarded: "" if nothing is lost, None if it is forwarded."""
    for configured, theirs in target.headers:
        if configured == name:
            return "" if theirs == value else "the configuration sets it"
    setting = target.options.get(SETTINGS_THAT_WIN.get(name, ""))
    if setting is not None:
        return "" if str(setting) == value else "the configuration sets it"
    if name in body.headers:
        return "" if body.headers[name] == value else "a parameter of the request sets it"
    allowed = CHOICES.get(name)
    if allowed is not None and value not in allowed:
        return f"it must be one of {', '.join(allowed)}"
    if not value:
        return "it is empty"
    return f"it is longer than {MAX_HEADER_CHARS} characters" if len(value) > MAX_HEADER_CHARS else None
