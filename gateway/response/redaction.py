"""Masks the gateway's credential and secret headers in an upstream's error texts."""

from __future__ import annotations

from urllib.parse import quote

from msgspec import structs

from providers.base import Failure, Target

MIN_SECRET_CHARS = 8
"""A header value of at least this length may be a secret. Shorter values are assumed to be words, such as a team's name."""
MASK = "***"


def secrets_of(target: Target) -> tuple[str, ...]:
    """Return the credential and the configured header values, each as it is and percent-encoded. Short ones are left out."""
    found = [target.credential] if target.credential and len(target.credential) > 3 else []
    found += [value for _, value in target.headers if len(value) >= MIN_SECRET_CHARS]
    encoded = [quote(value, safe="") for value in found]
    return tuple(dict.fromkeys([*found, *encoded]))


class Mask:
    """Masks a target's secrets in the bytes of a body, whose length does not change."""

    def __init__(self, target: Target) -> None:
        self._secrets = [secret.encode() for secret in secrets_of(target)]
        self._held = b""
        self._overlap = max((len(secret) for secret in self._secrets), default=1) - 1

    def feed(self, piece: bytes) -> bytes:
        """Return the masked bytes that can be sent now. The last ones are kept, because a secret may begin there."""
        whole = self._masked(self._held + piece)
        end = max(0, len(whole) - self._overlap)
        self._held = whole[end:]
        return whole[:end]

    def end(self) -> bytes:
        """Return the bytes that were kept."""
        return self._held

    def _masked(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        return data


def redact(failure: Failure, target: Target) -> Failure:
    """Return the failure with the target's secrets masked in every text field."""
    count = failure.redacted
    changed: dict[str, str] = {}
    for secret in secrets_of(target):
        for name in ("message", "code", "param", "type"):
            text = changed.get(name, getattr(failure, name))
            if text is not None and secret in text:
                count += text.count(secret)
                changed[name] = text.replace(secret, MASK)
    return structs.replace(failure, redacted=count, **changed) if changed else failure
