"""Every metric, declared in one table: name, what it means, labels; how gauges of several processes become one.

A counter's name stands here without `_total`. Only configured models, targets and keys, known parameters and the gateway's own words
become label values; every other name is `other`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Labels = tuple[str, ...]
Rule = Literal["sum", "max", "min"]

COUNTERS: dict[str, tuple[str, Labels]] = {
    "lockgate_requests": (
        "Calls answered, by the class of the status and the error code that the caller got.",
        ("model", "target", "provider", "operation", "status", "code"),
    ),
    "lockgate_tokens": ("Tokens, reported by the provider or estimated.", ("model", "target", "kind", "source")),
    "lockgate_cost_usd": ("What answers cost at the listed prices, in US dollars.", ("model", "target")),
    "lockgate_key_requests": ("Calls answered, by key.", ("key",)),
    "lockgate_key_tokens": ("Tokens by key.", ("key", "kind")),
    "lockgate_key_cost_usd": ("What answers cost, by key.", ("key",)),
    "lockgate_adjustments": ("Parameters that were changed.", ("provider", "param", "action")),
    "lockgate_limit_decisions": ("Decisions on limits, by the limit that bound.", ("owner", "kind", "decision", "mode")),
    "lockgate_attempts": ("Attempts at a target, by what became of them.", ("target", "outcome")),
    "lockgate_upstream_requests": ("Requests given to a target's transport, counted before they are sent.", ("target",)),
    "lockgate_upstream_errors": ("Attempts that failed.", ("target", "kind")),
    "lockgate_retries": ("Attempts at a target that had failed in the same call.", ("target",)),
    "lockgate_continuations": ("Streams that broke and were gone on with elsewhere, by how that ended.", ("model", "outcome")),
    "lockgate_fallbacks": ("Calls that went on to another target.", ("model",)),
    "lockgate_cooldowns": ("Times that a target was taken out of the order.", ("target", "reason")),
    "lockgate_shed": ("Calls that a target's queue had no place for.", ("target",)),
    "lockgate_retry_budget_exhausted": ("Retries that were not made because too many calls were retries.", ()),
    "lockgate_hedges": ("Second attempts sent because the first was slow.", ("model", "outcome")),
    "lockgate_mirrors": ("Copies of calls sent to a target whose answer nobody gets.", ("target", "outcome")),
    "lockgate_mirror_tokens": ("Tokens of such copies, which no caller pays for.", ("target", "kind")),
    "lockgate_mirror_cost_usd": ("What such copies cost, in US dollars.", ("target",)),
    "lockgate_stream_end": ("How streams ended.", ("target", "reason")),
    "lockgate_client_aborts": ("Callers who left before their answer was complete.", ("phase",)),
    "lockgate_auth_failures": ("Calls without a valid key.", ("reason",)),
    "lockgate_keys_revoked": ("Keys made at run time that this gateway stopped taking, wherever they were revoked.", ()),
    "lockgate_edge_refusals": ("Connections of callers that ended before there was a call.", ("reason",)),
    "lockgate_sse_normalised": ("Irregularities of upstream streams that were smoothed.", ()),
    "lockgate_secrets_redacted": ("Secrets cut out of what an upstream answered.", ()),
    "lockgate_internal_errors": ("Errors of the gateway itself.", ()),
    "lockgate_upstream_connects": ("Connections opened to upstreams.", ()),
    "lockgate_upstream_reuses": ("Requests sent on a kept connection.", ()),
    "lockgate_upstream_stale_retries": ("Requests repeated because a kept connection had been closed.", ()),
    "lockgate_upstream_poisoned": ("Connections not kept because of what came on them.", ()),
    "lockgate_log_drops": ("Log lines dropped because nobody read them.", ()),
    "lockgate_config_reloads": ("Reloads of the configuration.", ("outcome",)),
    "lockgate_store_errors": ("Failures of the store of limits, by kind.", ("kind",)),
    "lockgate_store_commands": ("Scripts run in the store of limits.", ()),
    "lockgate_ledger_journal_errors": ("Times that the journal of calls could not be written.", ()),
    "lockgate_engine_restarts": ("Restarts of the local engine.", ("provider",)),
    "lockgate_worker_restarts": ("Workers started again after they had ended by themselves.", ()),
}
"""Name: help, labels. In cells they are integers; SCALES says of what."""

GAUGES: dict[str, tuple[str, Labels, Rule]] = {
    "lockgate_requests_in_flight": ("Calls that are being answered.", (), "sum"),
    "lockgate_streams_in_flight": ("Streams that are being answered.", (), "sum"),
    "lockgate_target_state": ("1 for the state that a target is in.", ("target", "state"), "max"),
    "lockgate_target_in_flight": ("Attempts that are under way.", ("target",), "sum"),
    "lockgate_target_waiting": ("Calls that wait for a place at a target.", ("target",), "sum"),
    "lockgate_upstream_connections": ("Connections to upstreams, and requests that wait for one.", ("state",), "sum"),
    "lockgate_event_loop_lag_seconds": ("How late the last tick was; the worst worker's.", (), "max"),
    "lockgate_config_generation": ("Which configuration serves, counted from 1 at the start.", (), "max"),
    "lockgate_config_last_reload_successful": ("1 unless the last reload failed.", (), "min"),
    "lockgate_config_last_reload_timestamp_seconds": ("When the configuration was last read.", (), "max"),
    "lockgate_store_up": ("1 while limits are shared through the store.", (), "min"),
    "lockgate_store_members": ("Processes that share the store; of those that fell silent the share is held back.", ("state",), "max"),
    "lockgate_budget_used_ratio": ("The part of a budget that is spent or reserved.", ("owner", "name"), "max"),
    "lockgate_draining": ("1 once the process takes no more calls.", (), "max"),
    "lockgate_workers": ("Processes that answer callers.", (), "sum"),
    "lockgate_build_info": ("What runs, as labels.", ("version", "python"), "max"),
    "lockgate_engine_ready": ("1 while the local engine answers.", ("provider",), "max"),
    "lockgate_engine_running": ("Calls in the local engine's slots.", ("provider",), "sum"),
    "lockgate_engine_waiting": ("Calls that wait for a slot.", ("provider",), "sum"),
    "lockgate_series": ("Series that this process holds, of at most metrics.max_series.", (), "max"),
}
"""Name: help, labels, and how the values of several processes become one."""

OPERATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 600.0)
"""The GenAI conventions' buckets for operations, on to the longest answers."""
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 600.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
TOKENS = tuple(float(4**power) for power in range(14))


class Source(msgspec.Struct, frozen=True):
    """What is measured, once, whatever histograms show it. In cells sums are integers, `scale` of a unit each."""

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
}


class View(msgspec.Struct, frozen=True):
    """A histogram as it is shown: which source, and what its labels are called."""

    text: str
    source: str
    labels: tuple[tuple[str, str], ...]
    """Shown name and the source's label."""


def _ours(text: str, source: str) -> View:
    return View(text, source, (("model", "model"), ("target", "target")))


_SERVER = (("gen_ai_operation_name", "operation"), ("gen_ai_provider_name", "system"), ("gen_ai_request_model", "model"))
_CLIENT = (("gen_ai_operation_name", "operation"), ("gen_ai_provider_name", "system"), ("gen_ai_request_model", "upstream_model"))
_ERROR = (("error_type", "error"),)

HISTOGRAMS: dict[str, View] = {
    "lockgate_request_duration_seconds": _ours("From the request's head to the answer's last byte.", "duration"),
    "lockgate_time_to_first_token_seconds": _ours("From the request's head to a stream's first content.", "first_token"),
    "lockgate_time_per_output_token_seconds": _ours("Between the tokens of a stream, after the first.", "per_token"),
    "lockgate_overhead_seconds": _ours("What the gateway itself added: the whole time less the caller's and the upstream's.", "overhead"),
    "gen_ai_server_request_duration_seconds": View("Calls as their callers saw them.", "duration", (*_SERVER, *_ERROR)),
    "gen_ai_server_time_to_first_token_seconds": View("Until a stream's first content.", "first_token", _SERVER),
    "gen_ai_server_time_per_output_token_seconds": View("Between the tokens of a stream.", "per_token", _SERVER),
    "gen_ai_client_operation_duration_seconds": View("Attempts at upstreams.", "attempt", (*_CLIENT, *_ERROR)),
    "gen_ai_client_token_usage": View("Tokens of an answer, input and output.", "usage", (*_CLIENT, ("gen_ai_token_type", "token_type"))),
}

SCALES: dict[str, float] = {"lockgate_cost_usd": 1e9, "lockgate_key_cost_usd": 1e9, "lockgate_mirror_cost_usd": 1e9}
"""Counters that are not counted in ones, and how many of theirs make a one: money is in nano-dollars."""

MICRO = 10**6
"""Gauges are kept in millionths."""

OTHER = "other"
NONE = "none"

MAX_SERIES = 2000
MAX_KEYS = 200
MAX_CODES = 100
MAX_ROWS = 300
"""Label sets of one counter or gauge, `other` included, in every 2,000 series."""
MAX_VIEW_ROWS = 40
"""The same for what histograms are made from."""
