"""How the targets fare."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import ANY, BAD, TARGET, rare, rate, share

PROVIDERS = Dashboard(
    "providers",
    "Providers",
    "How the targets fare: attempts, failures, retries, cooldowns, queues and connections.",
    (
        stat("Targets live", "short", "Targets that calls are sent to.", 'sum(lockgate_target_state{state="live"})'),
        stat(
            "Targets cooling",
            "short",
            "Targets that are left out because they failed too often.",
            'sum(lockgate_target_state{state="cooling"})',
            ANY,
        ),
        stat(
            "Failed attempts",
            "percentunit",
            "Share of attempts that failed; another attempt may have answered the caller.",
            share(rate("lockgate_upstream_errors_total", TARGET), rate("lockgate_attempts_total", TARGET)),
            BAD,
        ),
        stat(
            "Retries held back",
            "short",
            "Retries of the last hour that were not made, so as not to multiply the load.",
            rare("sum(increase(lockgate_retry_budget_exhausted_total[1h]))"),
            ANY,
        ),
        stat(
            "Streams cut",
            "percentunit",
            "Share of streams that broke at the target's side before their end.",
            share(rate("lockgate_stream_end_total", f'{TARGET}, reason!~"ok|drain"'), rate("lockgate_stream_end_total", TARGET)),
            BAD,
        ),
        stat(
            "Turned away",
            "short",
            "Calls of the last hour that a full queue had no place for.",
            rare(f"sum(increase(lockgate_shed_total{{{TARGET}}}[1h]))"),
            ANY,
        ),
        stacked(
            "Attempts by target",
            "reqps",
            "One call makes one attempt, or several when targets fail.",
            {rate("lockgate_attempts_total", TARGET, "target"): "{{target}}"},
        ),
        stacked("Attempts by outcome", "reqps", "ok, or why not.", {rate("lockgate_attempts_total", TARGET, "outcome"): "{{outcome}}"}),
        Panel(
            "Failures",
            "reqps",
            "Failed attempts by target and kind.",
            {rare(rate("lockgate_upstream_errors_total", TARGET, "target, kind")): "{{target}} {{kind}}"},
        ),
        Panel(
            "State",
            "short",
            "1 while a target is in that state.",
            {f'max by (target, state) (lockgate_target_state{{{TARGET}, state!="live"}})': "{{target}} {{state}}"},
        ),
        Panel(
            "Retries and fallbacks",
            "reqps",
            "The same target again; the next target.",
            {
                rare(rate("lockgate_retries_total", TARGET, "target")): "retry {{target}}",
                rare(rate("lockgate_fallbacks_total", "", "model")): "fallback {{model}}",
            },
        ),
        Panel(
            "Cooldowns",
            "short",
            "How often targets were taken out in the last hour, and why.",
            {rare(f"sum by (target, reason) (increase(lockgate_cooldowns_total{{{TARGET}}}[1h]))"): "{{target}} {{reason}}"},
        ),
        Panel(
            "In flight and waiting",
            "short",
            "Attempts under way, and calls that wait for a place at a target.",
            {
                f"sum by (target) (lockgate_target_in_flight{{{TARGET}}})": "{{target}} in flight",
                f"sum by (target) (lockgate_target_waiting{{{TARGET}}})": "{{target}} waiting",
            },
        ),
        Panel(
            "Hedges and mirrors",
            "reqps",
            "Second attempts because the first was slow; copies whose answer nobody gets.",
            {
                rare(rate("lockgate_hedges_total", "", "model, outcome")): "hedge {{model}} {{outcome}}",
                rare(rate("lockgate_mirrors_total", TARGET, "target, outcome")): "mirror {{target}} {{outcome}}",
            },
        ),
        stacked(
            "Ends of streams",
            "reqps",
            "ok, drain when we ended, or how they broke; and broken ones that another target went on with.",
            {
                rate("lockgate_stream_end_total", TARGET, "reason"): "{{reason}}",
                rare(rate("lockgate_continuations_total", "", "model, outcome")): "went on, {{model}} {{outcome}}",
            },
        ),
        Panel(
            "Connections",
            "short",
            "In use, kept for the next call, and calls that wait for one.",
            {"sum by (state) (lockgate_upstream_connections)": "{{state}}"},
        ),
        Panel(
            "Connections made and kept",
            "reqps",
            "Many new ones against few reused ones cost a handshake each.",
            {
                rate("lockgate_upstream_connects_total"): "opened",
                rate("lockgate_upstream_reuses_total"): "reused",
                rate("lockgate_upstream_stale_retries_total"): "found closed",
                rate("lockgate_upstream_poisoned_total"): "thrown away",
            },
        ),
        Panel(
            "Callers who left",
            "reqps",
            "By how far their call had come.",
            {rare(rate("lockgate_client_aborts_total", "", "phase")): "{{phase}}"},
        ),
    ),
    (("target", "lockgate_attempts_total"),),
)
