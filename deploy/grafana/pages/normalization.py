"""What was changed on the way."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import ANY, rare, rate

NORMALIZATION = Dashboard(
    "normalization",
    "Normalization",
    "What was changed so that a target could take it: every change is on the caller's receipt as well.",
    (
        stat("Changes", "short", "Parameters changed in a second.", rate("lockgate_adjustments_total")),
        stat(
            "Changes a call",
            "short",
            "How many parameters of an average call were changed.",
            f"{rate('lockgate_adjustments_total')} / {rate('lockgate_requests_total')}",
        ),
        stat(
            "Lossy changes",
            "short",
            "Dropped, clamped, downgraded or truncated, in a second: a strict caller would have been refused.",
            rare(rate("lockgate_adjustments_total", 'action=~"drop|clamp|downgrade|truncate"')),
        ),
        stat(
            "Refused",
            "reqps",
            "Calls refused with 4xx for what they asked, in a second.",
            rare(rate("lockgate_requests_total", 'status="4xx", code=~"invalid.*|unsupported.*|context_length.*"')),
        ),
        stat(
            "Stream irregularities",
            "short",
            "Oddities of upstream streams that were smoothed, in the last hour.",
            rare("sum(increase(lockgate_sse_normalised_total[1h]))"),
        ),
        stat(
            "Secrets cut out",
            "short",
            "Secrets that an upstream's answer had and the caller did not get, in the last hour.",
            rare("sum(increase(lockgate_secrets_redacted_total[1h]))"),
            ANY,
        ),
        stacked(
            "Changes by action",
            "short",
            "rename, drop, clamp, set_default ... in a second.",
            {rate("lockgate_adjustments_total", "", "action"): "{{action}}"},
        ),
        stacked(
            "Changes by parameter",
            "short",
            "Which parameters callers send that targets do not take as they are.",
            {rate("lockgate_adjustments_total", "", "param"): "{{param}}"},
        ),
        stacked(
            "Changes by provider",
            "short",
            "Which providers need most changes.",
            {rate("lockgate_adjustments_total", "", "provider"): "{{provider}}"},
        ),
        Panel(
            "Lossy changes",
            "short",
            "By provider and parameter: a better target for these callers, or a cleaner request.",
            {
                rare(
                    rate("lockgate_adjustments_total", 'action=~"drop|clamp|downgrade|truncate"', "provider, param, action")
                ): "{{provider}} {{param}} {{action}}"
            },
        ),
        Panel(
            "Refusals by code",
            "reqps",
            "What callers were refused for.",
            {rare(rate("lockgate_requests_total", 'status="4xx"', "code")): "{{code}}"},
        ),
        stacked(
            "Calls by operation", "reqps", "Which of the APIs is used.", {rate("lockgate_requests_total", "", "operation"): "{{operation}}"}
        ),
    ),
)
