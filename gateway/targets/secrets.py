"""The secrets of a target, which are masked in its errors and in recorded contents."""

from __future__ import annotations

from urllib.parse import quote

from providers.base import Target

MIN_SECRET_CHARS = 8
"""A header value of at least this length may be a secret. Shorter values are assumed to be words, such as a team's name."""


def secrets_of(target: Target) -> tuple[str, ...]:
    """Return the credential and the configured header values, each as it is and percent-encoded. Short values are left out."""
    found = [target.credential] if target.credential and len(target.credential) > 3 else []
    found += [value for _, value in target.headers if len(value) >= MIN_SECRET_CHARS]
    encoded = [quote(value, safe="") for value in found]
    return tuple(dict.fromkeys([*found, *encoded]))
