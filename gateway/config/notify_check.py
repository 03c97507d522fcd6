"""Checks of the settings for notifications."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from gateway.config.formats import Address
from gateway.config.problem import Problems
from gateway.config.types import Config

MIN_SECRET_BYTES = 24
"""Minimum size of a signing secret in Standard Webhooks."""
SECRET_PREFIX = "whsec_"
OWN_HEADERS = frozenset({"content-type", "webhook-id", "webhook-timestamp", "webhook-signature"})


def check_notify(config: Config, problems: Problems) -> None:
    """Refuse webhooks without TLS, signing secrets with the wrong format, and settings without effect."""
    notify = config.notify
    if notify is None:
        return
    url = urlsplit(notify.webhook.reveal())
    if url.scheme == "http" and not notify.allow_http and not Address(url.hostname or "", 0).is_loopback:
        problems.add_at_path("notify.webhook", "the URL is not https: use https, or set notify.allow_http: true")
    for index, secret in enumerate(notify.secret):
        try:
            signing_key(secret.reveal())
        except ValueError as error:
            problems.add_at_path("notify.secret" if len(notify.secret) == 1 else f"notify.secret[{index}]", str(error))
    for name in notify.headers:
        if name.lower() in OWN_HEADERS:
            problems.add_at_path(f"notify.headers.{name}", "the gateway sets this header itself: remove it")
    if not notify.events:
        problems.add_at_path("notify.events", "the list is empty: name at least one event, or remove notify")
    for index, event in enumerate(notify.events):
        if event in notify.events[:index]:
            problems.add_at_path(f"notify.events[{index}]", f"'{event}' is repeated: remove one of them")
    if "budget" in notify.events and not notify.budget_thresholds:
        problems.add_at_path("notify.budget_thresholds", "the list is empty: name a threshold, or remove 'budget' from notify.events")


def signing_key(secret: str) -> bytes:
    """Return the key of a secret in the format of Standard Webhooks.

    If the secret is invalid, raise a ValueError that does not contain it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) < MIN_SECRET_BYTES:
        raise ValueError(
            f"expected {SECRET_PREFIX} and the base64 of at least {MIN_SECRET_BYTES} bytes, the output of: "
            f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
        )
    return key
