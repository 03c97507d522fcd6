"""Sends notifications to the webhook, one at a time, with retries.

Calls never wait: if the queue is full, new notifications are dropped.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from gateway.config.notify import NotifyConfig
from gateway.config.notify_check import signing_key
from gateway.metrics import Metrics
from gateway.notify.events import Notification
from gateway.upstream.end_tasks import end_tasks
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.proxy import proxy_of
from gateway.upstream.resolver import Resolver, ThreadResolver, is_allowed_address
from gateway.upstream.transport import Deadlines, Origin, TlsFiles, Transport, UpstreamError
from providers.base import WireRequest

MAX_WAITING = 100
"""Maximum number of waiting notifications. Further notifications are dropped and counted."""
RETRY_DELAYS_S = (1.0, 4.0, 16.0, 60.0)
"""Minimum delays between the attempts to send one notification. A Retry-After of the receiver may lengthen them."""
MAX_RETRY_AFTER_S = 120.0
MAX_ANSWER_BYTES = 64 << 10
RETRIED_STATUSES = frozenset({408, 425, 429})
"""Statuses below 500 after which another attempt may succeed."""


class Rejected(msgspec.Struct, frozen=True):
    """The reason why one attempt failed. The text contains neither the URL nor the answer of the receiver."""

    reason: str
    is_final: bool = False
    """Whether further attempts would fail as well."""
    retry_after: float = 0.0


class Sender:
    """The queue of notifications, and the task that sends them."""

    def __init__(self, metrics: Metrics, report: Callable[[str], None], delays_s: tuple[float, ...] = RETRY_DELAYS_S) -> None:
        """`report` receives one line when sending begins to fail and one when it works again."""
        self._metrics = metrics
        self._report = report
        self._delays_s = delays_s
        self._config: NotifyConfig | None = None
        self._waiting: deque[Notification] = deque()
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False

    def configure(self, config: NotifyConfig | None) -> None:
        """Use the webhook of this configuration from now on. If `config` is None, drop the waiting notifications."""
        self._config = config
        if config is None:
            while self._waiting:
                self._count(self._waiting.popleft(), "dropped")
        elif self._task is None:
            self._task = asyncio.create_task(self._send_all(), name="notifications")

    def put(self, notification: Notification) -> None:
        """Queue a notification. Drop and count it if there is no webhook, or if MAX_WAITING others are waiting."""
        if self._config is None or len(self._waiting) >= MAX_WAITING:
            self._count(notification, "dropped")
            return
        self._waiting.append(notification)
        self._is_idle.clear()
        self._has_work.set()

    async def stop(self, timeout_s: float) -> None:
        """Send the waiting notifications for at most `timeout_s` seconds, then stop. Count the unsent notifications as dropped."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()
        except TimeoutError:
            pass
        await end_tasks([self._task])
        self.configure(None)

    async def _send_all(self) -> None:
        while True:
            await self._has_work.wait()
            while self._waiting:
                await self._send(self._waiting[0])
            self._has_work.clear()
            self._is_idle.set()

    async def _send(self, notification: Notification) -> None:
        """Send the first notification of the queue, then remove it."""
        rejected: Rejected | None = None
        for delay_s in (*self._delays_s, None):
            if self._config is None:  # a reload has removed the webhook and emptied the queue
                return
            rejected = await post(self._config, notification)
            if rejected is None or rejected.is_final or delay_s is None:
                break
            self._report_state(rejected)
            await asyncio.sleep(max(delay_s, rejected.retry_after) * random.uniform(1.0, 1.25))
        if self._waiting and self._waiting[0] is notification:
            self._waiting.popleft()
            self._count(notification, "sent" if rejected is None else "failed")
        self._report_state(rejected)

    def _report_state(self, rejected: Rejected | None) -> None:
        if (rejected is not None) != self._is_failing:
            self._is_failing = rejected is not None
            self._report(f"notify: the webhook fails: {rejected.reason}" if rejected is not None else "notify: the webhook works again")

    def _count(self, notification: Notification, outcome: str) -> None:
        self._metrics.count("lockgate_notifications", (notification.event, outcome))


async def post(config: NotifyConfig, notification: Notification, resolver: Resolver | None = None) -> Rejected | None:
    """Send one notification in one request, on a connection of its own. Return None if the webhook accepted it."""
    url = urlsplit(config.webhook.reveal())
    body = msgspec.json.encode(notification)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    request = WireRequest(path, [*_headers(config, notification.id, body)], body)
    proxy = proxy_of(config.proxy, f"{url.scheme}://{url.netloc}")
    port = url.port or (443 if url.scheme == "https" else 80)
    origin = Origin(url.scheme, url.hostname or "", port, None, TlsFiles(config.ca), proxy)
    deadlines = Deadlines(config.timeout, config.timeout, config.timeout, config.timeout, config.timeout)
    transport = _transport(proxy, resolver or ThreadResolver())
    try:
        response = await transport.send(origin, request, deadlines)
        try:
            with suppress(UpstreamError):  # the status alone decides: after a success, a repetition would arrive twice
                await response.body(MAX_ANSWER_BYTES)
        finally:
            response.close()
    except UpstreamError as error:
        return Rejected(f"{error.message} ({error.kind})")
    finally:
        await transport.aclose()
    if 200 <= response.status < 300:
        return None
    headers = {name: value for name, value in response.headers if name == b"retry-after"}
    return Rejected(
        f"it answered with HTTP {response.status}",
        response.status < 500 and response.status not in RETRIED_STATUSES,
        _seconds(headers.get(b"retry-after", b"")),
    )


def _transport(proxy: str | None, resolver: Resolver) -> Transport:
    if proxy is None:
        return NativeTransport(1, resolver=resolver, is_allowed=is_allowed_address)
    from gateway.upstream.httpx_transport import HttpxTransport

    return HttpxTransport(1, resolver, is_allowed_address)


def _headers(config: NotifyConfig, id: str, body: bytes) -> list[tuple[str, str]]:
    headers = [("content-type", "application/json"), ("user-agent", "lockgate"), ("webhook-id", id)]
    headers += [(name.lower(), value.reveal()) for name, value in config.headers.items()]
    now = int(time.time())
    headers.append(("webhook-timestamp", str(now)))
    if config.secret:
        signatures = " ".join(signature(secret.reveal(), id, now, body) for secret in config.secret)
        headers.append(("webhook-signature", signatures))
    return headers


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a request in the format of Standard Webhooks 1.0.0 (github.com/standard-webhooks)."""
    digest = hmac.new(signing_key(secret), f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _seconds(text: bytes) -> float:
    """Return a Retry-After in seconds, at most MAX_RETRY_AFTER_S, or 0 if the header is absent or contains a date."""
    return min(float(text), MAX_RETRY_AFTER_S) if text.isdigit() else 0.0
