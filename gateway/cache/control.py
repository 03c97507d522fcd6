"""Reads a caller's `Cache-Control` header."""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import Headers

MAX_AGE_DIGITS = 9


class CacheControl(NamedTuple):
    """Whether a call may be answered with a cached answer that is at most `max_age_s` seconds old, and whether its answer may be stored."""

    may_read: bool = True
    may_store: bool = True
    max_age_s: float = float("inf")


def read_cache_control(headers: Headers) -> CacheControl:
    """Read `no-store` (neither read nor stored), `no-cache` (not read, but stored) and `max-age`. Ignore everything else."""
    may_read, may_store, max_age = True, True, float("inf")
    for name, value in headers:
        if name != b"cache-control":
            continue
        for directive in value.lower().replace(b";", b",").split(b","):  # some clients separate directives like parameters
            word, _, argument = directive.strip().partition(b"=")
            argument = argument.strip(b'"')
            if word == b"no-store":
                may_read = may_store = False
            elif word == b"no-cache":
                may_read = False
            elif word == b"max-age" and argument.isdigit():
                max_age = min(max_age, int(argument.lstrip(b"0")[:MAX_AGE_DIGITS] or b"0"))
    return CacheControl(may_read, may_store, max_age)
