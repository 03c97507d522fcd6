"""Every metric, declared in one table: name, help text, labels, and how the gauges of several processes are merged.

Counter names are listed without `_total`. Label values are names in the configuration, known parameters, the first
MAX_KEYS keys, MAX_TEAMS teams and MAX_CODES error codes that occur, the first MAX_DISCOVERED discovered models, and fixed
words of the gateway; every other name becomes `other`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Labels = tuple[str, ...]
Rule = Literal["sum", "max", "min"]

COUNTERS: dict[str, tuple[str, Labels]] = {
    "lockgate_requests": (
        "Finished calls, by status class and error code.",
        ("model", "target", "provider", "operation", "status", "code"),
    ),
    "lockgate_tokens": ("Tokens, reported by the provider or estimated.", ("model", "target", "kind", "source")),
    "lockgate_cost_usd": ("Cost of calls in US dollars, including billed attempts that failed.", ("model", "target")),
    "lockgate_unpriced_usages": (
        "Answers and billed attempts whose cost is unknown because the model has no known price.",
        ("model", "target"),
    ),
    "lockgate_key_requests": ("Finished calls by key and status class.", ("key", "team", "status")),
    "lockgate_key_tokens": ("Tokens by key.", ("key", "team", "kind")),
    "lockgate_key_cost_usd": ("Cost of calls by key, in US dollars.", ("key", "team")),
    "lockgate_adjustments": ("Parameters that were adjusted for a provider.", ("provider", "param", "action")),
    "lockgate_limit_decisions": (
        "Admissions, counted for every limit of a call, and refusals, counted for the limit that refused.",
        ("owner", "kind", "decision", "mode"),
    ),
    "lockgate_hook_refusals": ("Refusals by hooks, by point.", ("hook", "point")),
    "lockgate_hook_failures": ("Failures of hooks, by point: errors and missed deadlines.", ("hook", "point", "reason")),
    "lockgate_attempts": ("Attempts at a target, by outcome. Copies for a mirror are included.", ("target", "outcome")),
    "lockgate_upstream_requests": (
        "Requests handed to a target's transport, counted before they are sent.",
        ("target",),
    ),
    "lockgate_upstream_errors": ("Failed attempts, by kind of failure. Copies for a mirror are included.", ("target", "kind")),
    "lockgate_unanswered_disconnects": (
        "Attempts whose caller disconnected before the target had sent the head of a JSON answer or the first content of a stream.",
        ("target",),
    ),
    "lockgate_retries": ("Retries at the same target within a call.", ("target",)),
    "lockgate_continuations": ("Attempts to continue a broken stream, by outcome.", ("model", "outcome")),
    "lockgate_fallbacks": ("Fallbacks to another target.", ("model",)),
    "lockgate_fallback_answers": (
        "Calls answered by a target other than the first of their route, including those whose first target was in cooldown, and "
        "streams that broke off. Hedges that answered first are not counted.",
        ("model",),
    ),
    "lockgate_cooldowns": ("Cooldowns started.", ("target", "reason")),
    "lockgate_shed": ("Attempts that a target did not admit because its queue or connection pool was full.", ("target",)),
    "lockgate_retry_budget_exhausted": ("Retries and fallbacks suppressed by the retry budget.", ()),
    "lockgate_hedges": ("Hedges: second attempts sent because the first was slow.", ("model", "outcome")),
    "lockgate_cache_lookups": (
        "Attempts of models with a cache: `hit`, `joined` (the answer of an equal call in flight), `miss` or `bypass`.",
        ("model", "outcome"),
    ),
    "lockgate_cache_writes": (
        "New answers of models with a cache: `stored`, `incomplete`, `too_large`, or `unavailable` if the store failed.",
        ("model", "outcome"),
    ),
    "lockgate_mirrors": ("Mirrored calls, whose responses are discarded.", ("target", "outcome")),
    "lockgate_mirror_tokens": ("Tokens of mirrored calls, which are not charged to a key.", ("target", "kind")),
    "lockgate_mirror_cost_usd": ("Cost of mirrored calls, in US dollars.", ("target",)),
    "lockgate_stream_end": ("Finished streams, by how they ended.", ("target", "reason")),
    "lockgate_client_aborts": ("Calls whose caller disconnected before the response was complete.", ("phase",)),
    "lockgate_auth_failures": ("Calls rejected because their key or token was missing, invalid, disabled or expired.", ("reason",)),
    "lockgate_keys_revoked": ("Run-time keys that this gateway stopped accepting because they were revoked.", ()),
    "lockgate_issuer_key_fetches": ("Fetches of the public keys of token issuers, by outcome.", ("issuer", "outcome")),
    "lockgate_edge_refusals": ("Caller connections rejected or closed before a request was complete.", ("reason",)),
    "lockgate_sse_normalised": ("Irregularities in upstream streams that were corrected.", ()),
    "lockgate_secrets_redacted": ("Credentials removed from upstream error texts.", ()),
    "lockgate_internal_errors": ("Internal errors of the gateway.", ()),
    "lockgate_upstream_connects": ("Connections opened to upstreams.", ()),
    "lockgate_upstream_reuses": ("Upstream requests sent on a pooled connection.", ()),
    "lockgate_upstream_stale_retries": (
        "Upstream requests repeated because the pooled connection had been closed.",
        (),
    ),
    "lockgate_upstream_poisoned": ("Upstream connections not returned to the pool because of unexpected data.", ()),
    "lockgate_log_drops": ("Log lines dropped because their reader was too slow or they could not be written.", ()),
    "lockgate_call_record_drops": ("Calls that could not be recorded, for example because of a full disk.", ()),
    "lockgate_notifications": (
        "Notifications to the webhook, by outcome: sent, failed after all attempts, or dropped because too many were waiting.",
        ("event", "outcome"),
    ),
    "lockgate_config_reloads": ("Reloads of the configuration, by outcome.", ("outcome",)),
    "lockgate_store_errors": ("Failures of the limit store, by kind.", ("kind",)),
    "lockgate_store_commands": ("Scripts run in the limit store.", ()),
    "lockgate_ledger_journal_errors": ("Failed writes to the usage journal.", ()),
    "lockgate_engine_restarts": ("Restarts of the local engine.", ("provider",)),
    "lockgate_worker_restarts": ("Workers restarted after they had ended unexpectedly.", ()),
}
"""Help text and labels by name. Cells hold integers; SCALES gives their unit where it is not 1."""

GAUGES: dict[str, tuple[str, Labels, Rule]] = {
    "lockgate_requests_in_flight": ("Calls in flight.", (), "sum"),
    "lockgate_streams_in_flight": ("Streams in flight.", (), "sum"),
    "lockgate_target_state": (
        "1 for the current state of a target, 0 for the other states.",
        ("target", "state"),
        "max",
    ),
    "lockgate_target_down": (
        "1 while a target is down: in cooldown or not yet recovered, except in a cooldown after a rate limit.",
        ("target",),
        "max",
    ),
    "lockgate_target_in_flight": ("Attempts in flight.", ("target",), "sum"),
    "lockgate_target_waiting": ("Calls waiting in a target's queue.", ("target",), "sum"),
    "lockgate_target_waiting_keys": ("Keys with calls waiting in a target's queue.", ("target",), "max"),
    "lockgate_discovery_up": ("1 if the last request for a provider's list of models (`discover`) succeeded.", ("provider",), "min"),
    "lockgate_discovered_models": ("Number of models in a provider's list (`discover`).", ("provider",), "max"),
    "lockgate_upstream_connections": ("Connections to upstreams, and requests waiting for one.", ("state",), "sum"),
    "lockgate_event_loop_lag_seconds": ("Delay of the last event loop tick; the highest of all workers.", (), "max"),
    "lockgate_config_generation": ("Number of the active configuration, counted from 1 at the start.", (), "max"),
    "lockgate_config_last_reload_successful": ("1 unless the last reload failed.", (), "min"),
    "lockgate_config_last_reload_timestamp_seconds": ("Time of the last reload attempt.", (), "max"),
    "lockgate_issuer_keys_timestamp_seconds": (
        "Time of the last successful fetch of the public keys of an issuer; the earliest of all workers.", ("issuer",), "min",
    ),
    "lockgate_store_up": ("1 while limits are shared through the store.", (), "min"),
    "lockgate_store_members": (
        "Processes that share the store. The shares of missing processes stay reserved.",
        ("state",),
        "max",
    ),
    "lockgate_budget_used_ratio": ("Share of a budget that is spent by settled calls.", ("owner", "name"), "max"),
    "lockgate_budget_reserved_ratio": ("Share of a budget that calls in flight reserve.", ("owner", "name"), "max"),
    "lockgate_draining": ("1 once the process is shutting down.", (), "max"),
    "lockgate_workers": ("Serving processes.", (), "sum"),
    "lockgate_build_info": ("Versions of the running program, as labels.", ("version", "python"), "max"),
    "lockgate_engine_ready": ("1 while the local engine is ready.", ("provider",), "max"),
    "lockgate_engine_running": ("Calls running in the local engine.", ("provider",), "sum"),
    "lockgate_engine_waiting": ("Calls waiting for a slot of the local engine.", ("provider",), "sum"),
    "lockgate_series": ("Series in use. The maximum is metrics.max_series.", (), "max"),
}
"""Help text, labels, and the rule for merging several processes, by name."""

OPERATION = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    163.84,
    327.68,
    600.0,
)
"""Buckets of the GenAI semantic conventions for operations, extended to 600 s for long answers."""
FIRST_TOKEN = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    60.0,
    600.0,
)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
TOKENS = tuple(float(4**power) for power in range(14))


class Source(msgspec.Struct, frozen=True):
    """One measurement, which several histograms may show.

    The cells hold the sum of the values as an integer. This integer multiplied by `scale` is the sum in seconds or tokens.
    """

    buckets: tuple[float, ...]
    labels: Labels
    scale: float = 1e-9


_CALL = ("model", "target", "provider", "system", "operation", "error")
_ATTEMPT = ("upstream_model", "system", "operation", "error")
_USAGE = ("upstream_model", "system", "operation", "token_type")

SOURCES: dict[str, Source] = {
    "duration": Source(OPERATION, _CALL),
    "first_token": Source(FIRST_TOKEN, _CALL),
    "per_token": Source(PER_TOKEN, _CALL),
    "overhead": Source(OVERHEAD, _CALL),
    "attempt": Source(OPERATION, _ATTEMPT),
    "usage": Source(TOKENS, _USAGE, 1.0),
    "queue": Source(FIRST_TOKEN, ("target",)),
}


class View(msgspec.Struct, frozen=True):
    """One exposed histogram: its source and its label names."""

    text: str
    source: str
    labels: tuple[tuple[str, str], ...]
    """Pairs of exposed label name and label of the source."""


def _ours(text: str, source: str) -> View:
    return View(text, source, (("model", "model"), ("target", "target")))


_SERVER = (
    ("gen_ai_operation_name", "operation"),
    ("gen_ai_provider_name", "system"),
    ("gen_ai_request_model", "model"),
)
_CLIENT = (
    ("gen_ai_operation_name", "operation"),
    ("gen_ai_provider_name", "system"),
    ("gen_ai_request_model", "upstream_model"),
)
_ERROR = (("error_type", "error"),)

HISTOGRAMS: dict[str, View] = {
    "lockgate_request_duration_seconds": _ours(
        "Time from the request's headers to the last byte of the response.", "duration"
    ),
    "lockgate_time_to_first_token_seconds": _ours(
        "Time from the request's headers to the first content of a stream.", "first_token"
    ),
    "lockgate_time_per_output_token_seconds": _ours(
        "Mean time per token after the first token of a stream.", "per_token"
    ),
    "lockgate_overhead_seconds": _ours(
        "Time added by the gateway to calls with one attempt, not including waits for the caller, a queue or the upstream.",
        "overhead",
    ),
    "lockgate_queue_seconds": View(
        "Time for which attempts waited for a slot of their target; attempts that did not wait are not counted.",
        "queue",
        (("target", "target"),),
    ),
    "gen_ai_server_request_duration_seconds": View(
        "Duration of calls, as callers see it.", "duration", (*_SERVER, *_ERROR)
    ),
    "gen_ai_server_time_to_first_token_seconds": View("Time to the first content of a stream.", "first_token", _SERVER),
    "gen_ai_server_time_per_output_token_seconds": View(
        "Mean time per token after the first token of a stream.", "per_token", _SERVER
    ),
    "gen_ai_client_operation_duration_seconds": View("Duration of upstream attempts.", "attempt", (*_CLIENT, *_ERROR)),
    "gen_ai_client_token_usage": View(
        "Tokens of a call, by type.", "usage", (*_CLIENT, ("gen_ai_token_type", "token_type"))
    ),
}

SCALES: dict[str, float] = {"lockgate_cost_usd": 1e9, "lockgate_key_cost_usd": 1e9, "lockgate_mirror_cost_usd": 1e9}
"""Cell units per exposed unit, for counters where this factor is not 1: costs are counted in nano-dollars."""

MICRO = 10**6
"""Cells hold gauges in millionths."""

OTHER = "other"
NONE = "none"

MAX_SERIES = 2000
MAX_KEYS = 200
MAX_TEAMS = 100
MAX_CODES = 100
MAX_DISCOVERED = 1000
MAX_ROWS = 300
"""Number of label sets of one counter or gauge after which new ones are counted as `other`.

This number applies if max_series is 2,000; for other values it is scaled in proportion.
"""
MAX_ROWS_OF = {"lockgate_key_requests": 3 * MAX_KEYS, "lockgate_key_tokens": 2 * MAX_KEYS}
"""The same number for individual counters."""
MAX_VIEW_ROWS = 40
"""The same number for a histogram source."""
