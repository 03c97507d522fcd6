"""Alerts that one instance evaluates from its own metrics."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gateway.metrics.declarations import COUNTERS, GAUGES, MICRO, SOURCES
from gateway.metrics.snapshot import Snapshot
from gateway.runtime.alerts import FAMILIES, RULES, Alerts, Moment
from tests.support.each import each

FILE = Path(__file__).parents[2] / "deploy" / "rules" / "alerts.yml"
DECLARED = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}
UNITS = {"s": 1, "m": 60, "h": 3600}
REQUEST = ("m", "a/x", "a", "chat")
Rows = list[tuple[str, tuple[str, ...], float, float]]
"""Name, labels, and the values before and now."""


def seconds(text: str) -> float:
    return int(text[:-1]) * UNITS[text[-1]]


def moments(rows: Rows, apart: float = 300.0) -> list[Moment]:
    """Return two moments with these values."""
    both: list[Snapshot] = [{}, {}]
    for name, labels, *values in rows:
        for snapshot, value in zip(both, values, strict=True):
            cells = [int(value * (MICRO if name in GAUGES else 1))]
            if name in SOURCES:  # all values are in the bucket with the highest bound
                cells = [0] * (len(SOURCES[name].buckets) - 1) + cells + [0, 0]
            snapshot.setdefault(name, {})[labels] = cells
    return [Moment(1000.0, both[0]), Moment(1000.0 + apart, both[1])]


def test_rules_are_those_of_the_file_for_prometheus() -> None:
    for rule in RULES:
        declared = DECLARED[rule.name]
        assert (rule.severity, rule.seconds) == (declared["labels"]["severity"], seconds(declared.get("for", "0s"))), rule.name


def test_alerts_of_the_file_that_are_left_out_need_more_than_one_instance_or_15_minutes() -> None:
    others = set(DECLARED) - {rule.name for rule in RULES}
    assert others == {
        "LockgateDown", "LockgateGone", "LockgateErrorBudgetFastBurn", "LockgateErrorBudgetSlowBurn", "LockgateNoTraffic",
        "LockgateSpendUnusual",
    }  # fmt: skip


def test_rules_read_the_families_that_are_kept() -> None:
    source = Path(__file__).parents[2].joinpath("gateway/runtime/alerts.py").read_text()
    read = source.partition("FAMILIES = (")[0]
    named = {name for name in re.findall(r'"(\w+)"', read) if name in COUNTERS or name in GAUGES or name in SOURCES}
    assert named == set(FAMILIES)


ROWS: dict[str, Rows] = {
    "LockgateErrorRate": [("lockgate_requests", (*REQUEST, "2xx", "ok"), 0, 90), ("lockgate_requests", (*REQUEST, "5xx", "e"), 0, 10)],
    "LockgateTargetDown": [("lockgate_target_down", ("a/x",), 0, 1), ("lockgate_target_down", ("b/y",), 0, 0)],
    "LockgateTargetSilent": [
        ("lockgate_unanswered_disconnects", ("a/x",), 0, 20),
        ("lockgate_attempts", ("a/x", "left"), 0, 20),
        ("lockgate_attempts", ("a/x", "ok"), 0, 1),
    ],
    "LockgateAllTargetsDown": [("lockgate_target_state", ("a/x", "live"), 1, 0)],
    "LockgateTargetCooling": [("lockgate_target_state", ("a/x", "cooling"), 0, 1)],
    "LockgateFallbacks": [("lockgate_requests", (*REQUEST, "2xx", "ok"), 0, 10), ("lockgate_fallback_answers", ("m",), 0, 3)],
    "LockgateInternalErrors": [("lockgate_internal_errors", (), 1, 2)],
    "LockgateRetryBudgetExhausted": [("lockgate_retry_budget_exhausted", (), 0, 1)],
    "LockgateQueueShed": [("lockgate_shed", ("a/x",), 0, 4)],
    "LockgateEventLoopLag": [("lockgate_event_loop_lag_seconds", (), 0, 0.5)],
    "LockgateStoreDown": [("lockgate_store_up", (), 1, 0)],
    "LockgateBudgetNearlySpent": [("lockgate_budget_used_ratio", ("key", "app"), 0.5, 0.95)],
    "LockgateBudgetSpent": [("lockgate_limit_decisions", ("key", "spend", "refused", "exact"), 0, 1)],
    "LockgateJournalErrors": [("lockgate_ledger_journal_errors", (), 0, 2)],
    "LockgateConfigReloadFailed": [("lockgate_config_last_reload_successful", (), 1, 0)],
    "LockgateEngineDown": [("lockgate_engine_ready", ("local",), 1, 0)],
    "LockgateEngineRestarts": [("lockgate_engine_restarts", ("local",), 0, 3)],
    "LockgateWorkerRestarts": [("lockgate_worker_restarts", (), 0, 3)],
    "LockgateLogDrops": [("lockgate_log_drops", (), 0, 3)],
    "LockgateDrainingLong": [("lockgate_draining", (), 0, 1)],
    "LockgateSlowFirstToken": [("first_token", ("m", "a/x", "a", "openai", "chat", ""), 0, 10)],
    "LockgateOverhead": [("overhead", ("m", "a/x", "a", "openai", "chat", ""), 0, 10)],
    "LockgateTargetErrors": [("lockgate_attempts", ("a/x", "connect"), 0, 10), ("lockgate_upstream_errors", ("a/x", "connect"), 0, 4)],
    "LockgateStreamsCut": [("lockgate_stream_end", ("a/x", "ok"), 0, 40), ("lockgate_stream_end", ("a/x", "truncated"), 0, 2)],
    "LockgateConnectionsWaiting": [("lockgate_upstream_connections", ("waiting",), 0, 3)],
    "LockgateLimitsDegraded": [("lockgate_limit_decisions", ("key", "requests", "admitted", "open"), 0, 1)],
    "LockgateCallRecordDrops": [("lockgate_call_record_drops", (), 0, 3)],
    "LockgateNotificationsLost": [
        ("lockgate_notifications", ("budget", "failed"), 0, 1), ("lockgate_notifications", ("budget", "sent"), 0, 5),
    ],
    "LockgateIssuerUnreachable": [
        ("lockgate_issuer_key_fetches", ("staff", "failed"), 0, 3), ("lockgate_issuer_key_fetches", ("staff", "ok"), 2, 2),
        ("lockgate_issuer_key_fetches", ("other", "failed"), 0, 1), ("lockgate_issuer_key_fetches", ("other", "ok"), 0, 1),
    ],
    "LockgateModelListUnreadable": [("lockgate_discovery_up", ("box",), 1, 0)],
    "LockgateKeysGuessed": [("lockgate_auth_failures", ("unknown",), 0, 400)],
}


STATES = {rule.name for rule in RULES if all(name in GAUGES for name, *_ in ROWS[rule.name])}
"""Rules about states, which hold until the state changes; the others are about the last minutes."""


def test_each_rule_has_a_case() -> None:
    assert set(ROWS) == {rule.name for rule in RULES}


@each("name", list(ROWS))
def test_alert_is_pending_first_and_fires_after_its_time(name: str) -> None:
    alerts, rows = Alerts(), moments(ROWS[name], apart=60.0 if name == "LockgateFallbacks" else 300.0)
    alerts.check(rows)
    rule = next(rule for rule in RULES if rule.name == name)
    held = {alert["alert"]: alert for alert in alerts.describe()}
    assert held[name]["state"] == ("pending" if rule.seconds else "firing")
    later = [rows[0], Moment(rows[1].at + rule.seconds, rows[1].rows)]
    if rule.name in STATES or not rule.seconds:
        alerts.check(later)
        assert {alert["alert"]: alert["state"] for alert in alerts.describe()}[name] == "firing"


@each("name", list(ROWS))
def test_alert_does_not_hold_without_a_change_for_the_worse(name: str) -> None:
    good = [(family, labels, before, before) for family, labels, before, _ in ROWS[name]]
    alerts = Alerts()
    alerts.check(moments(good))
    assert alerts.describe() == []


def test_target_whose_callers_disconnect_during_the_answer_is_not_silent() -> None:
    alerts = Alerts()
    alerts.check(moments([("lockgate_attempts", ("a/x", "left"), 0, 20), ("lockgate_unanswered_disconnects", ("a/x",), 1, 1)]))
    assert alerts.describe() == []


def test_alert_that_no_longer_holds_begins_again_later() -> None:
    down, up = moments(ROWS["LockgateStoreDown"]), moments([("lockgate_store_up", (), 1, 1)])
    alerts = Alerts()
    for rows in (down, up, down):
        alerts.check(rows)
    assert [alert["state"] for alert in alerts.describe()] == ["pending"]


def test_an_issuer_with_a_successful_fetch_is_reachable() -> None:
    alerts = Alerts()
    alerts.check(moments(ROWS["LockgateIssuerUnreachable"]))
    assert [alert["subject"] for alert in alerts.describe()] == ["staff"]


def test_increase_counts_only_the_last_minutes() -> None:
    early = Moment(0.0, {"lockgate_internal_errors": {(): [0]}})
    middle = Moment(100.0, {"lockgate_internal_errors": {(): [5]}})
    late = Moment(900.0, {"lockgate_internal_errors": {(): [5]}})
    alerts = Alerts()
    alerts.check([early, middle, late])
    assert alerts.describe() == []
