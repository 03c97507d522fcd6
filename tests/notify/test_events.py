"""The JSON bodies of notifications."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from gateway.notify import events
from gateway.notify.events import Notification
from gateway.store.limit import NANO_PER_USD, Limit, LimitUsage

NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def body_of(notification: Notification) -> dict[str, Any]:
    """Return the JSON body, without the fields that differ between notifications."""
    body: dict[str, Any] = json.loads(msgspec.json.encode(notification))
    assert body.pop("id").startswith("msg_")
    assert body.pop("time").endswith("Z")
    assert body.pop("host")
    assert body.pop("version") == events.VERSION == 1
    return body


def test_budget_body_has_amounts_threshold_and_the_end_of_the_period() -> None:
    limit = Limit("key:search", "spend", 50 * NANO_PER_USD, "month", model="gpt-5*", timezone="Europe/Berlin")
    usage = LimitUsage(limit, 41 * NANO_PER_USD, NANO_PER_USD, 3600.0)
    assert body_of(events.budget_reached(usage, 0.8, NOW)) == {
        "event": "budget",
        "text": "80 % of the budget of key search for gpt-5* is spent: 40.00 USD of 50 USD per month (Europe/Berlin).",
        "budget": {
            "owner": "key", "name": "search", "model": "gpt-5*", "period": "month", "time_zone": "Europe/Berlin", "limit_usd": 50.0,
            "spent_usd": 40.0, "share": 0.8, "threshold": 0.8, "resets_at": "2026-01-01T01:00:00Z",
        },
    }  # fmt: skip


def test_total_budget_has_no_end_and_no_time_zone() -> None:
    limit = Limit("team:a:b", "spend", 2 * NANO_PER_USD, "total")
    body = body_of(events.budget_reached(LimitUsage(limit, NANO_PER_USD // 1000, 0, math.inf), 0.0005, NOW))
    assert body["text"] == "0.05 % of the budget of team a:b is spent: 0.001 USD of 2 USD in total."
    assert body["budget"].keys() == {"owner", "name", "period", "limit_usd", "spent_usd", "share", "threshold"}
    assert body["budget"]["name"] == "a:b"


def test_refusal_names_the_budget() -> None:
    body = body_of(events.budget_refused(Limit("team:search", "spend", NANO_PER_USD, "day")))
    assert body["text"] == "A call was refused because the rest of the budget of team search (1 USD per day) does not cover it."
    assert (body["event"], body["budget"]["limit_usd"]) == ("budget_refused", 1.0)


def test_target_bodies_have_time_and_reason() -> None:
    assert body_of(events.target_down("a/m", 31.4, "failures", "connect")) == {
        "event": "target_down",
        "text": "The target a/m has been down for 31 s (failures: connect).",
        "target": {"name": "a/m", "seconds": 31, "reason": "failures", "last_failure": "connect"},
    }
    assert events.target_down("a/m", 31, "auth", "auth").text.endswith("for 31 s (auth).")
    assert events.target_down("a/m", 31, None, None).text.endswith("for 31 s.")
    assert body_of(events.target_recovered("a/m", 90.0)) == {
        "event": "target_recovered",
        "text": "The target a/m answers again. It was down for 90 s.",
        "target": {"name": "a/m", "seconds": 90},
    }
