"""Dashboard Providers: health and traffic of the targets."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat, strip
from promql import ANY, BAD, TARGET, rare, rate, share

STATES = (("0", "live"), ("2", "rate limited"), ("5", "probed"), ("6", "down"))
STATE_COLORS = (("0", "green"), ("2", "yellow"), ("5", "orange"), ("6", "red"))
# 1 while probing, 2 while cooling, and 4 more while down
STATE = (
    f'max by (target) (lockgate_target_state{{{TARGET}, state="probing"}} or 2 * lockgate_target_state{{{TARGET}, state="cooling"}})'
    f" + 4 * max by (target) (lockgate_target_down{{{TARGET}}})"
)

PROVIDERS = Dashboard(
    "providers",
    "Providers",
    "Attempts, failures, retries, cooldowns, queues and connections of the targets.",
    (
        stat("Targets live", "short", "Targets that receive calls.", f'sum(lockgate_target_state{{{TARGET}, state="live"}})'),
        stat(
            "Targets cooling",
            "short",
            "Targets in cooldown: after failures, a 429, a used-up quota or a rejected credential.",
            f'sum(lockgate_target_state{{{TARGET}, state="cooling"}})',
            ANY,
        ),
        stat(
            "Failed attempts",
            "percentunit",
            "Share of attempts that failed. Another attempt may have answered the call.",
            share(rate("lockgate_upstream_errors_total", TARGET), rate("lockgate_attempts_total", TARGET)),
            BAD,
        ),
        stat(
            "Retries suppressed",
            "short",
            "Retries and fallbacks that the retry budget suppressed in the last hour.",
            rare("sum(increase(lockgate_retry_budget_exhausted_total[1h]))"),
            ANY,
        ),
        stat(
            "Streams cut",
            "percentunit",
            "Share of streams that broke off.",
            share(rate("lockgate_stream_end_total", f'{TARGET}, reason!~"ok|drain|idle"'), rate("lockgate_stream_end_total", TARGET)),
            BAD,
        ),
        stat(
            "Rejected by a full queue",
            "short",
            "Calls rejected in the last hour because a target's queue or connection pool was full.",
            rare(f"sum(increase(lockgate_shed_total{{{TARGET}}}[1h]))"),
            ANY,
        ),
        strip(
            "State of the targets",
            "Rate limited: in cooldown after a 429. Down: in cooldown after failures, a used-up quota, a rejected credential or a missing "
            "model. Probed: still down, but one call is sent to test the recovery.",
            {STATE: "{{target}}"},
            STATES,
            STATE_COLORS,
        ),
        stacked(
            "Attempts by target",
            "reqps",
            "Attempts per second. A call makes several attempts if targets fail.",
            {rate("lockgate_attempts_total", TARGET, "target"): "{{target}}"},
        ),
        stacked(
            "Attempts by outcome",
            "reqps",
            "Attempts per second by outcome, such as ok, an HTTP status or a failure kind.",
            {rate("lockgate_attempts_total", TARGET, "outcome"): "{{outcome}}"},
        ),
        Panel(
            "Failures",
            "reqps",
            "Failed attempts by target and kind.",
            {rare(rate("lockgate_upstream_errors_total", TARGET, "target, kind")): "{{target}} {{kind}}"},
        ),
        Panel(
            "Disconnects before the answer",
            "reqps",
            "Attempts whose caller disconnected before the target began its answer.",
            {rare(rate("lockgate_unanswered_disconnects_total", TARGET, "target")): "{{target}}"},
        ),
        Panel(
            "Retries and fallbacks",
            "reqps",
            "Retries at the same target, fallbacks to the next one, and answers by a target other than the first.",
            {
                rare(rate("lockgate_retries_total", TARGET, "target")): "retry {{target}}",
                rare(rate("lockgate_fallbacks_total", "", "model")): "fallback {{model}}",
                rare(rate("lockgate_fallback_answers_total", "", "model")): "answered elsewhere {{model}}",
            },
        ),
        Panel(
            "Cooldowns",
            "short",
            "Cooldowns started in the last hour, by reason.",
            {rare(f"sum by (target, reason) (increase(lockgate_cooldowns_total{{{TARGET}}}[1h]))"): "{{target}} {{reason}}"},
        ),
        Panel(
            "In flight and waiting",
            "short",
            "Attempts in flight, and calls in the queue of a target.",
            {
                f"sum by (target) (lockgate_target_in_flight{{{TARGET}}})": "{{target}} in flight",
                f"sum by (target) (lockgate_target_waiting{{{TARGET}}})": "{{target}} waiting",
                f"max by (target) (lockgate_target_waiting_keys{{{TARGET}}})": "{{target}} keys waiting",
            },
        ),
        Panel(
            "Hedges and mirrors",
            "reqps",
            "Second attempts sent because the first was slow, and mirrored copies.",
            {
                rare(rate("lockgate_hedges_total", "", "model, outcome")): "hedge {{model}} {{outcome}}",
                rare(rate("lockgate_mirrors_total", TARGET, "target, outcome")): "mirror {{target}} {{outcome}}",
            },
        ),
        Panel(
            "Cached answers",
            "reqps",
            "Lookups in the caches of models, and the outcomes of storing answers.",
            {
                rare(rate("lockgate_cache_lookups_total", "", "model, outcome")): "{{model}} {{outcome}}",
                rare(rate("lockgate_cache_writes_total", "", "model, outcome")): "write {{model}} {{outcome}}",
            },
        ),
        stacked(
            "Ends of streams",
            "reqps",
            "Finished streams: ok, drain (shutdown of the gateway), idle or limit (WebSocket connections) or a failure kind; and attempts "
            "to continue a broken stream.",
            {
                rate("lockgate_stream_end_total", TARGET, "reason"): "{{reason}}",
                rare(rate("lockgate_continuations_total", "", "model, outcome")): "continued, {{model}} {{outcome}}",
            },
        ),
        Panel(
            "Connections",
            "short",
            "Connections in use and idle, and calls waiting for a connection.",
            {"sum by (state) (lockgate_upstream_connections)": "{{state}}"},
        ),
        Panel(
            "Connections opened and reused",
            "reqps",
            "Each new connection costs a handshake, so a high share of new connections is expensive.",
            {
                rate("lockgate_upstream_connects_total"): "opened",
                rate("lockgate_upstream_reuses_total"): "reused",
                rate("lockgate_upstream_stale_retries_total"): "stale",
                rate("lockgate_upstream_poisoned_total"): "discarded",
            },
        ),
        Panel(
            "Client disconnects",
            "reqps",
            "Disconnects by phase of the call.",
            {rare(rate("lockgate_client_aborts_total", "", "phase")): "{{phase}}"},
        ),
    ),
    (("target", "lockgate_attempts_total"),),
)
