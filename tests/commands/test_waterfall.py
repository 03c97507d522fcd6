"""One past call as text: its facts, and bars at the times of its parts."""

from __future__ import annotations

from typing import Any

from gateway.commands.waterfall import BAR_WIDTH, waterfall

CALL: dict[str, Any] = {
    "time": "2026-11-28T14:02:11.120+00:00", "id": "req_1", "client": "10.0.0.1", "key": "app", "team": "search", "end_user": "u\x1b",
    "path": "/v1/chat/completions", "model": "smart", "target": "b/y", "status": 200, "stream": True, "ms": 4000.0,
    "first_byte_ms": 3500.0, "client_id": "mine", "prompt_tokens": 1200, "output_tokens": 30, "cached_tokens": 1000,
    "cost_usd": 0.00012, "adjustments": ["max_tokens:clamp 9000 -> 8192"], "stream_end": "ok",
    "attempts": [
        {"target": "a/x", "outcome": "header_timeout", "ms": 2000.0, "sent_ms": 0.0},
        {"target": "b/y", "outcome": "ok", "ms": 1000.0, "queue_ms": 1000.0, "sent_ms": 3000.0, "head_ms": 3400.0},
    ],
}  # fmt: skip


def bars(text: str) -> list[tuple[str, str]]:
    """Return the name and the bar of each part."""
    parts = [line.split("|", 1)[1] for line in text.splitlines() if " ms  |" in line]
    return [(part[BAR_WIDTH + 1 :].strip(), part[:BAR_WIDTH]) for part in parts]


def test_bars_are_at_the_times_of_the_parts() -> None:
    assert bars(waterfall(CALL)) == [
        ("a/x: header_timeout", "#" * 20 + " " * 20),
        ("queue of b/y", " " * 20 + "#" * 10 + " " * 10),
        ("b/y: ok, response began at 3,400.0", " " * 30 + "#" * 10),
        ("first byte to the caller", " " * 35 + "|" + " " * 4),
        ("end", " " * 39 + "|"),
    ]


def test_facts_include_the_caller_the_cost_and_the_adjustments() -> None:
    facts = dict(line.split(maxsplit=1) for line in waterfall(CALL).splitlines() if line and "ms  |" not in line)
    assert facts["caller"] == "10.0.0.1, key app, team search, end user u?"
    assert facts["tokens"] == "1,200 prompt + 30 output (1,000 cached)"
    assert facts["cost"] == "0.00012 USD"
    assert facts["adjusted"] == "max_tokens:clamp 9000 -> 8192"
    assert facts["request"] == "/v1/chat/completions, model smart, stream"


def test_a_refused_call_shows_the_limit_and_its_state() -> None:
    refused = {
        **{name: CALL[name] for name in ("time", "id", "path", "model", "stream")}, "client": "", "key": "app", "target": None,
        "status": 429, "ms": 0.3, "error": "rate_limit_exceeded", "message": "Rate limit reached for the key 'app': 2 requests per min.",
        "limits": [
            {"limit": "2 requests per min", "owner": "key:app", "used": 2, "amount": 2, "reset_s": 31.04, "refused": True},
            {"limit": "5 USD in total", "owner": "team:search", "model": "m", "used": 4.5, "reserved": 0.25, "amount": 5, "reset_s": None},
        ],
    }  # fmt: skip
    text = waterfall(refused)
    assert "rate_limit_exceeded: Rate limit reached for the key 'app': 2 requests per min." in text
    assert "refused by 2 requests per min for key:app: 2 of 2 used, free again after 31.0 s\n" in text
    assert "5 USD in total for team:search, model m: 4.5 of 5 used (0.25 of it reserved by calls in flight), never reset\n" in text
    assert [name for name, _ in bars(text)] == ["end"]


def test_an_attempt_that_was_not_sent_has_no_time_at_its_target() -> None:
    waiting = {**CALL, "attempts": [{"target": "a/x", "outcome": "left", "ms": 0.0, "queue_ms": 4000.0}], "aborted": "queue"}
    assert bars(waterfall(waiting))[:2] == [("queue of a/x", "#" * 40), ("a/x: left, not sent", " " * 39 + "|")]
