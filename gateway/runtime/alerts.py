"""The alerts of deploy/rules/alerts.yml that one instance can evaluate from its own metrics of the last 15 minutes.

The page shows them to operators without Prometheus. Name, severity, threshold and duration are those of the file.
Alerts that need a longer time, metrics of other instances, or Prometheus itself are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import msgspec

from gateway.metrics.declarations import COUNTERS, GAUGES, MICRO, SOURCES
from gateway.metrics.quantile import INFINITE, quantile
from gateway.metrics.snapshot import ABSENT, Snapshot

Found = Iterator[tuple[str, str]]
"""Pairs of a subject, such as a target, and a sentence about it."""


class Moment(msgspec.Struct, frozen=True):
    """The rows of FAMILIES at one time. `at` is in seconds since the epoch."""

    at: float
    rows: Snapshot


class Readings:
    """Values and increases of metrics, read from the moments of the last 15 minutes."""

    def __init__(self, moments: Sequence[Moment]) -> None:
        self._moments = moments
        self._now = moments[-1]

    def gauge(self, name: str, by: str = "", **labels: str) -> dict[str, float]:
        """Return the current values of a gauge by the value of the label `by`: the largest value if several series share it."""
        values: dict[str, float] = {}
        for key, cell in _selected(self._now.rows, name, GAUGES[name][1], by, labels):
            if cell != ABSENT:
                values[key] = max(values.get(key, float("-inf")), cell / MICRO)
        return values

    def increase(self, name: str, seconds: float, by: str = "", **labels: str) -> dict[str, float]:
        """Return the increase of a counter in the last `seconds` by the value of the label `by`."""
        start = self._now.at - seconds
        before = next((moment for moment in reversed(self._moments) if moment.at <= start), self._moments[0])
        sums: dict[str, float] = {}
        for sign, moment in ((1, self._now), (-1, before)):
            for key, cell in _selected(moment.rows, name, COUNTERS[name][1], by, labels):
                sums[key] = sums.get(key, 0.0) + sign * cell
        return {key: value for key, value in sums.items() if value > 0}

    def quantile(self, source: str, seconds: float, share: float, by: str = "") -> dict[str, float]:
        """Return a quantile, in seconds, of the values of the last `seconds`, by the value of the label `by`."""
        start = self._now.at - seconds
        before = next((moment for moment in reversed(self._moments) if moment.at <= start), self._moments[0])
        bounds, names = SOURCES[source].buckets, SOURCES[source].labels
        counts: dict[str, list[int]] = {}
        for sign, moment in ((1, self._now), (-1, before)):
            for labels, cells in moment.rows.get(source, {}).items():
                sums = counts.setdefault(labels[names.index(by)] if by else "", [0] * (len(bounds) + 1))
                for index in range(len(sums)):
                    sums[index] += sign * cells[index]
        found = {key: quantile(dict(zip((*bounds, INFINITE), accumulate(sums), strict=True)), share) for key, sums in counts.items()}
        return {key: value for key, value in found.items() if value is not None}


def _selected(
    rows: Snapshot, name: str, names: Sequence[str], by: str, wanted: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    conditions = [(names.index(label), value) for label, value in wanted.items()]
    index = names.index(by) if by else -1
    for labels, cells in rows.get(name, {}).items():
        if all(labels[position] == value for position, value in conditions):
            yield labels[index] if by else "", cells[0]


class Rule(msgspec.Struct, frozen=True):
    """One alert: it fires if its condition has held for `seconds`."""

    name: str
    severity: Literal["page", "ticket"]
    seconds: float
    condition: Callable[[Readings], Found]


def _error_rate(read: Readings) -> Found:
    calls = sum(read.increase("lockgate_requests", 300).values())
    errors = sum(read.increase("lockgate_requests", 300, status="5xx").values())
    if calls > 0.05 * 300 and errors > 0.05 * calls:
        yield "", f"{errors / calls:.0%} of the calls of the last five minutes ended with a 5xx."


def _target_down(read: Readings) -> Found:
    for target, is_down in read.gauge("lockgate_target_down", "target").items():
        if is_down:
            yield target, f"{target} is down: its calls go to other targets, or fail."


def _target_silent(read: Readings) -> Found:
    attempts = read.increase("lockgate_attempts", 30, "target")
    for target, left in read.increase("lockgate_unanswered_disconnects", 30, "target").items():
        if left >= 10 and left > 0.9 * attempts.get(target, 0.0):
            yield target, f"Nearly all callers disconnect before {target} begins its answer."


def _all_targets_down(read: Readings) -> Found:
    states = read.gauge("lockgate_target_state", "target", state="live")
    if states and not any(states.values()):
        yield "", "No target is live: calls fail or are sent to a target in cooldown."


def _target_cooling(read: Readings) -> Found:
    for target, cooling in read.gauge("lockgate_target_state", "target", state="cooling").items():
        if cooling:
            yield target, f"{target} is in cooldown."


def _fallbacks(read: Readings) -> Found:
    calls = read.increase("lockgate_requests", 120, "model")
    for model, count in read.increase("lockgate_fallback_answers", 120, "model").items():
        if count > 0.2 * calls.get(model, 0.0):
            yield model, f"A target other than the first answers {count / max(calls.get(model, 0), count):.0%} of the calls to {model}."


def _counted(name: str, seconds: float, by: str, text: str, more_than: float = 0.0) -> Callable[[Readings], Found]:
    """Return the condition that a counter increases by more than a number. `text` contains the placeholders `{count}` and `{subject}`."""

    def condition(read: Readings) -> Found:
        for subject, count in read.increase(name, seconds, by).items():
            if count > more_than:
                yield subject, text.format(count=int(count), subject=subject)

    return condition


def _zero(name: str, by: str, text: str) -> Callable[[Readings], Found]:
    """Return the condition that a gauge is 0."""

    def condition(read: Readings) -> Found:
        for subject, value in read.gauge(name, by).items():
            if not value:
                yield subject, text.format(subject=subject)

    return condition


def _target_errors(read: Readings) -> Found:
    attempts = read.increase("lockgate_attempts", 300, "target")
    for target, errors in read.increase("lockgate_upstream_errors", 300, "target").items():
        if errors >= 3 and errors > 0.25 * attempts.get(target, 0.0):
            yield target, f"{errors / max(attempts.get(target, 0.0), errors):.0%} of the attempts at {target} fail."


def _streams_cut(read: Readings) -> Found:
    ends = read.increase("lockgate_stream_end", 600, "target")
    good = [read.increase("lockgate_stream_end", 600, "target", reason=reason) for reason in ("ok", "drain", "idle")]
    for target, count in ends.items():
        cut = count - sum(each.get(target, 0.0) for each in good)
        if cut > 0.02 * count:
            yield target, f"{cut / count:.0%} of the streams of {target} break off."


def _connections_waiting(read: Readings) -> Found:
    for waiting in read.gauge("lockgate_upstream_connections", state="waiting").values():
        if waiting:
            yield "", f"{waiting:.0f} calls wait for an upstream connection."


def _limits_degraded(read: Readings) -> Found:
    for mode in read.increase("lockgate_limit_decisions", 300, "mode").keys() & {"local_share", "open", "closed"}:
        yield mode, f"Limits are decided without the store, in mode {mode}."


def _slow_first_token(read: Readings) -> Found:
    for model, seconds in read.quantile("first_token", 300, 0.95, "model").items():
        if seconds > 10:
            yield model, f"5 % of the calls to {model} wait {seconds:.0f} s or longer for the first token."


def _overhead(read: Readings) -> Found:
    for seconds in read.quantile("overhead", 300, 0.99).values():
        if seconds > 0.05:
            yield "", f"The gateway adds {seconds * 1000:.0f} ms or more to one call in a hundred."


def _draining(read: Readings) -> Found:
    if any(read.gauge("lockgate_draining").values()):
        yield "", "The gateway is shutting down."


def _event_loop_lag(read: Readings) -> Found:
    for lag in read.gauge("lockgate_event_loop_lag_seconds").values():
        if lag > 0.25:
            yield "", f"The event loop lags by {lag * 1000:.0f} ms."


def _budget_nearly_spent(read: Readings) -> Found:
    for name, share in read.gauge("lockgate_budget_used_ratio", "name").items():
        if share > 0.9:
            yield name, f"{share:.0%} of the budget of {name} is used."


def _budget_spent(read: Readings) -> Found:
    for owner in read.increase("lockgate_limit_decisions", 900, "owner", kind="spend", decision="refused"):
        yield owner, f"Calls are refused because the rest of the budget of a {owner} does not cover them."


def _notifications_lost(read: Readings) -> Found:
    counts = read.increase("lockgate_notifications", 900, "outcome")
    lost = sum(count for outcome, count in counts.items() if outcome != "sent")
    if lost:
        yield "", f"{lost:.0f} notifications did not reach the webhook in 15 minutes."


def _issuer_unreachable(read: Readings) -> Found:
    succeeded = read.increase("lockgate_issuer_key_fetches", 900, "issuer", outcome="ok")
    for issuer in read.increase("lockgate_issuer_key_fetches", 900, "issuer", outcome="failed"):
        if issuer not in succeeded:
            yield issuer, f"The public keys of the issuer {issuer} cannot be fetched."


def _keys_guessed(read: Readings) -> Found:
    rate = sum(read.increase("lockgate_auth_failures", 300).values()) / 300
    if rate > 1:
        yield "", f"{rate:.1f} calls a second have no valid key."


RULES = (
    Rule("LockgateErrorRate", "page", 300, _error_rate),
    Rule("LockgateTargetDown", "page", 30, _target_down),
    Rule("LockgateTargetSilent", "page", 10, _target_silent),
    Rule("LockgateAllTargetsDown", "page", 30, _all_targets_down),
    Rule("LockgateTargetCooling", "ticket", 300, _target_cooling),
    Rule("LockgateFallbacks", "ticket", 180, _fallbacks),
    Rule("LockgateInternalErrors", "ticket", 0, _counted(
        "lockgate_internal_errors", 600, "", "{count} calls failed in ten minutes because of an internal error.")),
    Rule("LockgateDrainingLong", "ticket", 300, _draining),
    Rule("LockgateSlowFirstToken", "ticket", 600, _slow_first_token),
    Rule("LockgateOverhead", "ticket", 600, _overhead),
    Rule("LockgateTargetErrors", "ticket", 300, _target_errors),
    Rule("LockgateStreamsCut", "ticket", 600, _streams_cut),
    Rule("LockgateConnectionsWaiting", "ticket", 300, _connections_waiting),
    Rule("LockgateLimitsDegraded", "ticket", 300, _limits_degraded),
    Rule("LockgateRetryBudgetExhausted", "ticket", 300, _counted(
        "lockgate_retry_budget_exhausted", 300, "", "Retries are suppressed so that they do not multiply the load.")),
    Rule("LockgateQueueShed", "ticket", 300, _counted(
        "lockgate_shed", 300, "target", "The queue or connection pool of {subject} is full: {count} calls were rejected in five minutes.")),
    Rule("LockgateEventLoopLag", "ticket", 300, _event_loop_lag),
    Rule("LockgateStoreDown", "page", 60, _zero("lockgate_store_up", "", "The store of limits and budgets is unavailable.")),
    Rule("LockgateBudgetNearlySpent", "ticket", 300, _budget_nearly_spent),
    Rule("LockgateBudgetSpent", "ticket", 0, _budget_spent),
    Rule("LockgateJournalErrors", "page", 0, _counted(
        "lockgate_ledger_journal_errors", 600, "", "{count} writes to the usage journal failed.")),
    Rule("LockgateConfigReloadFailed", "ticket", 60, _zero(
        "lockgate_config_last_reload_successful", "", "The last reload failed, and the previous configuration is serving.")),
    Rule("LockgateEngineDown", "ticket", 300, _zero("lockgate_engine_ready", "provider", "The local engine {subject} is not ready.")),
    Rule("LockgateEngineRestarts", "ticket", 0, _counted(
        "lockgate_engine_restarts", 900, "provider", "The local engine {subject} restarted {count} times in 15 minutes.", 2)),
    Rule("LockgateWorkerRestarts", "ticket", 0, _counted(
        "lockgate_worker_restarts", 900, "", "Workers ended unexpectedly {count} times in 15 minutes.", 2)),
    Rule("LockgateLogDrops", "ticket", 0, _counted("lockgate_log_drops", 600, "", "{count} log lines were dropped in ten minutes.")),
    Rule("LockgateCallRecordDrops", "ticket", 0, _counted(
        "lockgate_call_record_drops", 600, "", "{count} calls were not recorded in ten minutes.")),
    Rule("LockgateNotificationsLost", "ticket", 0, _notifications_lost),
    Rule("LockgateIssuerUnreachable", "ticket", 600, _issuer_unreachable),
    Rule("LockgateModelListUnreadable", "ticket", 600, _zero(
        "lockgate_discovery_up", "provider", "The models that the provider {subject} lists cannot be read.")),
    Rule("LockgateKeysGuessed", "ticket", 600, _keys_guessed),
)  # fmt: skip

FAMILIES = (
    "lockgate_requests", "lockgate_fallback_answers", "lockgate_internal_errors", "lockgate_retry_budget_exhausted", "lockgate_shed",
    "lockgate_limit_decisions", "lockgate_auth_failures", "lockgate_ledger_journal_errors", "lockgate_engine_restarts",
    "lockgate_worker_restarts", "lockgate_log_drops", "lockgate_target_state", "lockgate_store_up", "lockgate_budget_used_ratio",
    "lockgate_config_last_reload_successful", "lockgate_engine_ready", "lockgate_event_loop_lag_seconds", "lockgate_call_record_drops",
    "lockgate_attempts", "lockgate_unanswered_disconnects", "lockgate_upstream_errors", "lockgate_stream_end",
    "lockgate_upstream_connections", "lockgate_draining",
    "lockgate_issuer_key_fetches", "lockgate_target_down", "lockgate_notifications", "lockgate_discovery_up",
    "first_token", "overhead",
)  # fmt: skip
"""The counters, gauges and histograms that the rules read."""


class Alerts:
    """The alerts whose condition holds, each with the time at which it began to hold."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self._held: list[dict[str, Any]] = []

    def check(self, moments: Sequence[Moment]) -> None:
        """Check all rules against these moments, the latest last."""
        read, now = Readings(moments), moments[-1].at
        held: list[dict[str, Any]] = []
        since: dict[tuple[str, str], float] = {}
        for rule in RULES:
            for subject, summary in rule.condition(read):
                key = rule.name, subject
                since[key] = self._since.get(key, now)
                state = "firing" if now - since[key] >= rule.seconds else "pending"
                held.append({
                    "alert": rule.name, "severity": rule.severity, "state": state, "since": since[key],
                    "for_seconds": rule.seconds, "subject": subject, "summary": summary,
                })  # fmt: skip
        self._since, self._held = since, held

    def describe(self) -> list[dict[str, Any]]:
        """Return the alerts as JSON values. `pending`: the condition holds, but not yet for long enough."""
        return self._held
