"""Is it well? The page that Grafana opens with."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import BAD, MODEL, quantile, rare, rate, share

OVERVIEW = Dashboard(
    "overview",
    "Overview",
    "Is it well? Calls, errors, waiting, tokens and money at one look.",
    (
        stat("Calls", "reqps", "Calls answered, by any status.", rate("lockgate_requests_total", MODEL)),
        stat(
            "Failed",
            "percentunit",
            "Share of calls that ended with a 5xx. The objective is 0.5 % in a month.",
            share(rate("lockgate_requests_total", f'{MODEL}, status="5xx"'), rate("lockgate_requests_total", MODEL)),
            BAD,
        ),
        stat(
            "First token, p95",
            "s",
            "Nineteen callers of twenty had their first token by then.",
            quantile(0.95, "lockgate_time_to_first_token_seconds", MODEL),
            ((5, "orange"), (10, "red")),
        ),
        stat(
            "Overhead, p99",
            "s",
            "What the gateway itself added to all but one call in a hundred.",
            quantile(0.99, "lockgate_overhead_seconds", MODEL),
            ((0.01, "orange"), (0.05, "red")),
        ),
        stat(
            "Tokens",
            "short",
            "Tokens of prompts and answers in a second.",
            rate("lockgate_tokens_total", f'{MODEL}, kind=~"prompt|output"'),
        ),
        stat(
            "Spend, last hour",
            "currencyUSD",
            "What the answers of the last hour cost at list prices.",
            rare(f"sum(increase(lockgate_cost_usd_total{{{MODEL}}}[1h]))"),
        ),
        stacked("Calls by model", "reqps", "Who is asked how often.", {rate("lockgate_requests_total", MODEL, "model"): "{{model}}"}),
        stacked(
            "Calls by status",
            "reqps",
            "2xx answered, 4xx the caller's mistake or a limit, 499 the caller left, 5xx our or a provider's failure.",
            {rate("lockgate_requests_total", MODEL, "status"): "{{status}}"},
        ),
        Panel(
            "Errors by code",
            "reqps",
            "What callers were told, by the code in the error.",
            {rare(rate("lockgate_requests_total", f'{MODEL}, code!="ok"', "code")): "{{code}}"},
        ),
        stacked(
            "In flight",
            "short",
            "Calls that are being answered now, and how many of them are streams.",
            {"sum(lockgate_requests_in_flight)": "calls", "sum(lockgate_streams_in_flight)": "of these streams"},
        ),
        stacked(
            "Tokens by kind",
            "short",
            "Tokens a second: prompt and output; cached and reasoning are parts of these.",
            {rate("lockgate_tokens_total", MODEL, "kind"): "{{kind}}"},
        ),
        Panel(
            "Alerts",
            "short",
            "Alerts that are firing; deploy/runbook.md says what each means.",
            {rare('sum by (alertname) (ALERTS{alertstate="firing", alertname=~"Lockgate.*"})'): "{{alertname}}"},
        ),
    ),
    (("model", "lockgate_requests_total"),),
)
