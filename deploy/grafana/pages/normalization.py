"""Dashboard Normalization: adjusted parameters and refused requests."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import ANY, rare, rate

NORMALIZATION = Dashboard(
    "normalization",
    "Normalization",
    "Parameters that were adjusted for a target. Each adjustment is also on the caller's receipt.",
    (
        stat("Adjustments", "short", "Adjusted parameters per second.", rate("lockgate_adjustments_total")),
        stat(
            "Adjustments per call",
            "short",
            "Average number of adjusted parameters per call.",
            f"{rate('lockgate_adjustments_total')} / {rate('lockgate_requests_total')}",
        ),
        stat(
            "Lossy adjustments",
            "short",
            "Parameters dropped, clamped, downgraded or truncated per second. A strict call would be refused.",
            rare(rate("lockgate_adjustments_total", 'action=~"drop|clamp|downgrade|truncate"')),
        ),
        stat(
            "Refused",
            "reqps",
            "Calls per second that were refused with a 4xx because the request, its key or a parameter was not valid.",
            rare(rate("lockgate_requests_total", 'status="4xx", code=~"invalid.*|unsupported.*|context_length.*"')),
        ),
        stat(
            "Stream irregularities",
            "short",
            "Irregularities of upstream streams corrected in the last hour.",
            rare("sum(increase(lockgate_sse_normalised_total[1h]))"),
        ),
        stat(
            "Secrets removed",
            "short",
            "Secrets removed from upstream error messages in the last hour.",
            rare("sum(increase(lockgate_secrets_redacted_total[1h]))"),
            ANY,
        ),
        stacked(
            "Adjustments by action",
            "short",
            "Adjustments per second: rename, drop, clamp, set_default and others.",
            {rate("lockgate_adjustments_total", "", "action"): "{{action}}"},
        ),
        stacked(
            "Adjustments by parameter",
            "short",
            "Parameters that targets do not accept as sent.",
            {rate("lockgate_adjustments_total", "", "param"): "{{param}}"},
        ),
        stacked(
            "Adjustments by provider",
            "short",
            "Adjustments per second by provider.",
            {rate("lockgate_adjustments_total", "", "provider"): "{{provider}}"},
        ),
        Panel(
            "Lossy adjustments",
            "short",
            "By provider and parameter. Consider another target or a simpler request.",
            {
                rare(
                    rate("lockgate_adjustments_total", 'action=~"drop|clamp|downgrade|truncate"', "provider, param, action")
                ): "{{provider}} {{param}} {{action}}"
            },
        ),
        Panel(
            "Refusals by code",
            "reqps",
            "Calls refused with a 4xx, by error code.",
            {rare(rate("lockgate_requests_total", 'status="4xx"', "code")): "{{code}}"},
        ),
        stacked(
            "Calls by operation", "reqps", "Calls by API operation.", {rate("lockgate_requests_total", "", "operation"): "{{operation}}"}
        ),
    ),
)
