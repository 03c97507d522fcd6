"""Dashboard Overview: Grafana's start page."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import BAD, MODEL, quantile, rare, rate, share

OVERVIEW = Dashboard(
    "overview",
    "Overview",
    "Calls, errors, latency, tokens and cost at a glance.",
    (
        stat("Calls", "reqps", "Calls answered per second, with any status.", rate("lockgate_requests_total", MODEL)),
        stat(
            "Failed",
            "percentunit",
            "Share of calls that ended with a 5xx. The objective is at most 0.5 % in a month.",
            share(rate("lockgate_requests_total", f'{MODEL}, status="5xx"'), rate("lockgate_requests_total", MODEL)),
            BAD,
        ),
        stat(
            "First token, p95",
            "s",
            "95 % of the streams received their first token within this time.",
            quantile(0.95, "lockgate_time_to_first_token_seconds", MODEL),
            ((5, "orange"), (10, "red")),
        ),
        stat(
            "Overhead, p99",
            "s",
            "Time added by the gateway, 99th percentile.",
            quantile(0.99, "lockgate_overhead_seconds", MODEL),
            ((0.01, "orange"), (0.05, "red")),
        ),
        stat(
            "Tokens",
            "short",
            "Prompt and output tokens per second.",
            rate("lockgate_tokens_total", f'{MODEL}, kind=~"prompt|output"'),
        ),
        stat(
            "Spend, last hour",
            "currencyUSD",
            "Cost of the calls of the last hour.",
            rare(f"sum(increase(lockgate_cost_usd_total{{{MODEL}}}[1h]))"),
        ),
        stacked("Calls by model", "reqps", "Calls per second by model.", {rate("lockgate_requests_total", MODEL, "model"): "{{model}}"}),
        stacked(
            "Calls by status",
            "reqps",
            "2xx success, 4xx invalid request or a limit, 499 client disconnect, 5xx failure of a provider or the gateway.",
            {rate("lockgate_requests_total", MODEL, "status"): "{{status}}"},
        ),
        Panel(
            "Errors by code",
            "reqps",
            "Errors sent to callers, by error code.",
            {rare(rate("lockgate_requests_total", f'{MODEL}, code!="ok"', "code")): "{{code}}"},
        ),
        stacked(
            "In flight",
            "short",
            "Calls in flight, and how many of them are streams.",
            {"sum(lockgate_requests_in_flight)": "calls", "sum(lockgate_streams_in_flight)": "of these streams"},
        ),
        stacked(
            "Tokens by kind",
            "short",
            "Tokens per second. `cached` is included in `prompt`, and `reasoning` in `output`.",
            {rate("lockgate_tokens_total", MODEL, "kind"): "{{kind}}"},
        ),
        Panel(
            "Alerts",
            "short",
            "Firing alerts. deploy/runbook.md explains each.",
            {rare('sum by (alertname) (ALERTS{alertstate="firing", alertname=~"Lockgate.*"})'): "{{alertname}}"},
        ),
    ),
    (("model", "lockgate_requests_total"),),
)
