"""Sending over real connections: the request and its signature, retries, refusals, the bounded queue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_port
from gateway.config.notify import NotifyConfig
from gateway.config.secret import Secret
from gateway.metrics import Metrics
from gateway.notify.events import Notification, trial
from gateway.notify.sender import MAX_ANSWER_BYTES, MAX_WAITING, Sender, post, signature
from tests.faults.behaviours import canned, status
from tests.faults.tls import Certificates
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.live import eventually
from tests.support.each import each

ACCEPT = canned(b"ok")
SECRETS = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + b64encode(b"x" * 32).decode())


@pytest.fixture
async def hook() -> AsyncIterator[FaultUpstream]:
    """Return a webhook that accepts everything."""
    async with FaultUpstream() as server:
        server.on(lambda request: True, ACCEPT)
        yield server


def settings(hook: FaultUpstream, **more: Any) -> NotifyConfig:
    """Return notify settings for a webhook."""
    return NotifyConfig(Secret(f"{hook.origin}/services/1?x=very-secret"), **more)


class Running:
    """A sender, its counts and its reports."""

    def __init__(self, delays_s: tuple[float, ...] = (0.01, 0.01)) -> None:
        self.metrics = Metrics([], [], {}, params=[])
        self.reports: list[str] = []
        self.sender = Sender(self.metrics, self.reports.append, delays_s)

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of notifications by outcome."""
        return {labels[1]: count for labels, count in self.metrics.counts["lockgate_notifications"].items() if count}


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Running]]:
    """Return a function that starts a sender."""
    running: list[Running] = []

    def start_one(config: NotifyConfig | None, delays_s: tuple[float, ...] = (0.01, 0.01)) -> Running:
        running.append(Running(delays_s))
        running[-1].sender.configure(config)
        return running[-1]

    yield start_one
    for one in running:
        await one.sender.stop(0.0)


async def test_request_is_json_with_an_id_a_time_and_own_headers(hook: FaultUpstream) -> None:
    notification = trial()
    assert await post(settings(hook, headers={"Authorization": Secret("Bearer abc")}), notification) is None
    (request,) = hook.requests
    headers = dict(request.headers)
    assert (request.method, request.path) == ("POST", "/services/1?x=very-secret")
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer abc"
    assert headers["webhook-id"] == notification.id
    assert "webhook-signature" not in headers
    body = json.loads(request.body)
    assert (body["event"], body["text"], body["id"]) == ("test", "This is a test notification of Lockgate.", notification.id)


async def test_request_is_signed_with_each_secret(hook: FaultUpstream) -> None:
    await post(settings(hook, secret=tuple(map(Secret, SECRETS))), trial())
    (request,) = hook.requests
    headers = dict(request.headers)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    expected = [
        b64encode(hmac.new(b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()).decode() for secret in SECRETS
    ]
    assert headers["webhook-signature"] == " ".join(f"v1,{one}" for one in expected)


def test_signature_is_that_of_the_reference_implementations() -> None:
    """The values are the example in the libraries of Standard Webhooks."""
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(SECRETS[0], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == expected


async def test_temporary_failures_are_retried_and_reported_once(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    hook.once(status(503))
    hook.once(status(429, "later", {"retry-after": "0"}))
    running = start(settings(hook))
    running.sender.put(trial())
    await eventually(lambda: running.counts == {"sent": 1})
    assert len(hook.requests) == 3
    assert len({dict(request.headers)["webhook-id"] for request in hook.requests}) == 1
    assert running.reports == ["notify: the webhook fails: it answered with HTTP 503", "notify: the webhook works again"]


async def test_notification_is_given_up_after_all_attempts(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    hook.on(lambda request: True, status(500))
    running = start(settings(hook))
    running.sender.put(trial())
    await eventually(lambda: running.counts == {"failed": 1})
    assert len(hook.requests) == 3
    assert running.reports == ["notify: the webhook fails: it answered with HTTP 500"]


async def test_refused_notification_is_not_repeated(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    hook.on(lambda request: True, status(404, "no such hook very-secret"))
    running = start(settings(hook))
    running.sender.put(trial())
    await eventually(lambda: running.counts == {"failed": 1})
    assert len(hook.requests) == 1
    assert "very-secret" not in "".join(running.reports)


@pytest.mark.parametrize(("code", "accepted"), [(200, True), (404, False)])
@pytest.mark.parametrize("ending", ["too large", "cut", "silent"])
async def test_status_decides_whatever_body_follows(hook: FaultUpstream, code: int, accepted: bool, ending: str) -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-length: 1000\r\n\r\n" % code
    bodies = {"too large": canned(b"x" * (MAX_ANSWER_BYTES + 1), code), "cut": play(head + b"x"), "silent": play(head, HANG)}
    hook.on(lambda request: True, bodies[ending])
    rejected = await post(settings(hook, timeout=0.5), trial())
    assert (rejected is None) if accepted else (rejected is not None and rejected.is_final)


async def test_redirects_are_not_followed(hook: FaultUpstream) -> None:
    hook.on(lambda request: True, status(302, "", {"location": f"{hook.origin}/elsewhere"}))
    rejected = await post(settings(hook), trial())
    assert rejected is not None
    assert (rejected.reason, rejected.is_final) == ("it answered with HTTP 302", True)
    assert len(hook.requests) == 1


@each(("header", "seconds"), [("7", 7.0), ("100000", 120.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)])
def test_retry_after_is_read_in_seconds_and_bounded(header: str, seconds: float) -> None:
    async def answered() -> float:
        async with FaultUpstream() as hook:
            hook.on(lambda request: True, status(429, "later", {"retry-after": header}))
            rejected = await post(settings(hook), trial())
            assert rejected is not None
            return rejected.retry_after

    assert asyncio.run(answered()) == seconds


async def test_unreachable_and_silent_webhooks_are_temporary_failures(hook: FaultUpstream) -> None:
    hook.on(lambda request: True, play(HANG))
    for config in (
        settings(hook, timeout=0.1),
        NotifyConfig(Secret(f"http://127.0.0.1:{free_port()}/very-secret")),
        NotifyConfig(Secret("http://169.254.169.254/very-secret")),
    ):
        rejected = await post(config, trial())
        assert rejected is not None
        assert not rejected.is_final
        assert rejected.reason
        assert "very-secret" not in rejected.reason


async def test_certificate_of_the_webhook_is_verified_with_the_configured_authority(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with FaultUpstream(tls="good", certificates=certificates) as hook:
        hook.on(lambda request: True, ACCEPT)
        url = Secret(hook.origin.replace("127.0.0.1", "localhost") + "/x")
        rejected = await post(NotifyConfig(url), trial())
        assert rejected is not None
        assert await post(NotifyConfig(url, ca=str(certificates.ca)), trial()) is None


async def test_queue_is_bounded_and_drops_are_counted(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    hook.on(lambda request: True, play(HANG))
    running = start(settings(hook))
    for _ in range(MAX_WAITING + 5):
        running.sender.put(trial())
    assert running.counts == {"dropped": 5}
    running.sender.configure(None)
    assert running.counts == {"dropped": MAX_WAITING + 5}
    running.sender.put(trial())
    assert running.counts == {"dropped": MAX_WAITING + 6}


async def test_notifications_arrive_in_order_and_stop_waits_for_them(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    running = start(settings(hook))
    sent: list[Notification] = [trial() for _ in range(20)]
    for notification in sent:
        running.sender.put(notification)
    await running.sender.stop(30.0)
    assert [dict(request.headers)["webhook-id"] for request in hook.requests] == [one.id for one in sent]
    assert running.counts == {"sent": 20}


async def test_stop_gives_up_after_its_time_and_counts_the_rest(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    hook.on(lambda request: True, play(HANG))
    running = start(settings(hook))
    running.sender.put(trial())
    await running.sender.stop(0.05)
    assert running.counts == {"dropped": 1}


async def test_another_webhook_gets_what_waits_after_a_reload(hook: FaultUpstream, start: Callable[..., Running]) -> None:
    async with FaultUpstream() as broken:
        broken.on(lambda request: True, status(500))
        running = start(settings(broken), (0.01,) * 10_000)
        running.sender.put(trial())
        await eventually(lambda: len(broken.requests) > 1)
        running.sender.configure(settings(hook))
        await eventually(lambda: running.counts == {"sent": 1})
