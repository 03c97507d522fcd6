"""Checks of `notify`: https, the format of secrets, headers, events; the webhook is never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.diff import compare
from gateway.config.load import parse
from gateway.config.masked import masked
from gateway.config.notify import EVENTS, NotifyConfig
from gateway.config.notify_check import signing_key
from gateway.config.problem import ConfigError, Problems
from gateway.config.types import Config
from tests.support.each import each

WEBHOOK = "https://hooks.example.com/services/T0/B0/very-secret"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def loaded(rest: str = "", webhook: str = "${HOOK}", **environ: str) -> Config:
    """Load a configuration with notify settings."""
    return parse(f"notify:\n  webhook: {webhook}\n{rest}".encode(), "g.yaml", environ={"HOOK": WEBHOOK, "SIGN": SECRET, **environ})


def problem(rest: str = "", webhook: str = "${HOOK}", **environ: str) -> str:
    """Return the only problem of a configuration."""
    with pytest.raises(ConfigError) as error:
        loaded(rest, webhook, **environ)
    (only,) = error.value.problems
    return str(only)


def test_defaults_send_every_event_at_three_thresholds() -> None:
    notify = loaded().notify
    assert isinstance(notify, NotifyConfig)
    assert notify.webhook.reveal() == WEBHOOK
    assert (notify.events, notify.budget_thresholds, notify.down_after) == (EVENTS, (0.5, 0.8, 1.0), 30.0)
    assert loaded("  budget_thresholds: [75%]\n").notify.budget_thresholds == (0.75,)  # type: ignore[union-attr]


def test_webhook_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "hook"
    path.write_text(WEBHOOK + "\n")
    path.chmod(0o600)
    notify = loaded(webhook=f"file:{path}").notify
    assert notify is not None
    assert notify.webhook.reveal() == WEBHOOK


@each(
    ("webhook", "expected"),
    [
        ("http://hooks.example.com/1", "g.yaml:2:12: notify.webhook: the URL is not https: use https, or set notify.allow_http: true"),
        ("ftp://hooks.example.com/1", "expected the URL of a webhook"),
        ("https://user:pass@hooks.example.com/1", "do not write the password into this file"),
    ],
)
def test_webhook_that_is_not_https_is_refused(webhook: str, expected: str) -> None:
    assert expected in problem(webhook=webhook)


@each("webhook", ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/x"])
def test_http_is_allowed_on_loopback(webhook: str) -> None:
    assert loaded(webhook=f'"{webhook}"').notify is not None


def test_http_is_allowed_by_a_setting() -> None:
    assert loaded("  allow_http: true\n", "http://chat.internal/x").notify is not None


@each("secret", ["plain", "whsec_short", "whsec_!!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_signing_secret_with_another_format_is_refused_without_its_value(secret: str) -> None:
    text = problem("  secret: ${SIGN}\n", SIGN=secret)
    assert "g.yaml:3:11: notify.secret: expected whsec_ and the base64 of at least 24 bytes" in text
    assert secret not in text.replace("whsec_$(openssl", "")


def test_signing_key_is_the_decoded_base64() -> None:
    assert len(signing_key(SECRET)) == 24


@each(
    ("rest", "expected"),
    [
        ("  events: []\n", "notify.events: the list is empty"),
        ("  events: [budget, budget]\n", "notify.events[1]: 'budget' is repeated"),
        ("  events: [budgets]\n", "notify.events[0]"),
        ("  budget_thresholds: []\n", "notify.budget_thresholds: the list is empty"),
        ("  budget_thresholds: [150%]\n", "at most 100%"),
        ("  headers: { Webhook-Id: x }\n", "notify.headers.Webhook-Id: the gateway sets this header itself"),
        ("  url: x\n", "notify.url: unknown key"),
    ],
)
def test_mistakes_are_named_with_their_place(rest: str, expected: str) -> None:
    assert expected in problem(rest)


def test_absent_webhook_is_listed_instead_of_refused() -> None:
    absent = Problems("g.yaml")
    parse(b"notify: { webhook: '${NONE}' }", "g.yaml", environ={}, absent=absent)
    assert [one.message for one in absent.in_order] == ["the environment variable NONE is not set"]


def test_webhook_and_headers_are_masked_and_compared_without_their_values() -> None:
    one, other = loaded("  headers: { authorization: Bearer abc }\n"), loaded(HOOK=WEBHOOK + "-2")
    shown = masked(one)["notify"]
    assert (shown["webhook"], shown["headers"]) == ("***", {"authorization": "***"})
    changes = "\n".join(map(str, compare(one, other)))
    assert "notify.webhook" in changes
    assert "very-secret" not in changes
    assert "needs a restart" not in changes
