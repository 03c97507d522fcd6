"""Masks the credential and the secret headers of a request in an upstream's error texts and response headers."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from gateway.targets.secrets import secrets_of
from providers.base import Failure, Target

MASK = "***"


class Mask:
    """Masks a target's secrets in the bytes of a body, whose length does not change."""

    def __init__(self, target: Target) -> None:
        self._secrets = [secret.encode() for secret in secrets_of(target)]
        self._held = b""
        self._overlap = max((len(secret) for secret in self._secrets), default=1) - 1

    def feed(self, piece: bytes) -> bytes:
        """Return the masked bytes that can be sent now. Hold back the last bytes, because a secret may begin in them."""
        whole = self._masked(self._held + piece)
        end = max(0, len(whole) - self._overlap)
        self._held = whole[end:]
        return whole[:end]

    def end(self) -> bytes:
        """Return the bytes that were kept back."""
        return self._held

    def _masked(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        return data


def mask_headers(headers: Sequence[tuple[bytes, bytes]], target: Target) -> list[tuple[bytes, bytes]]:
    """Return response headers with the target's secrets masked in their values."""
    masked = list(headers)
    for secret in secrets_of(target):
        masked = [(name, value.replace(secret.encode(), MASK.encode())) for name, value in masked]
    return masked


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
