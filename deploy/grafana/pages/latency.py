"""Where the time goes."""

from __future__ import annotations

from panels import Dashboard, Panel
from promql import MODEL, quantile, rate, three

LATENCY = Dashboard(
    "latency",
    "Latency",
    "Where the time goes: until the first token, between tokens, as a whole, and what of it is the gateway's own.",
    (
        Panel(
            "Time to first token",
            "s",
            "From the request's head to a stream's first content.",
            three("lockgate_time_to_first_token_seconds", MODEL),
        ),
        Panel(
            "Time to first token by model, p95",
            "s",
            "Which model makes callers wait.",
            {quantile(0.95, "lockgate_time_to_first_token_seconds", MODEL, "model"): "{{model}}"},
        ),
        Panel(
            "Time per output token",
            "s",
            "Between the tokens of a stream, after the first.",
            three("lockgate_time_per_output_token_seconds", MODEL),
        ),
        Panel(
            "Output tokens a second of a stream, by target",
            "short",
            "How fast a reader sees text: one over the mean time per token.",
            {
                f"{rate('lockgate_time_per_output_token_seconds_count', MODEL, 'target')}"
                f" / {rate('lockgate_time_per_output_token_seconds_sum', MODEL, 'target')}": "{{target}}"
            },
        ),
        Panel("Whole call", "s", "From the request's head to the answer's last byte.", three("lockgate_request_duration_seconds", MODEL)),
        Panel(
            "Whole call by target, p95",
            "s",
            "Long answers take long: compare a target with itself.",
            {quantile(0.95, "lockgate_request_duration_seconds", MODEL, "target"): "{{target}}"},
        ),
        Panel("Gateway overhead", "s", "The whole time less the caller's and the upstream's.", three("lockgate_overhead_seconds", MODEL)),
        Panel(
            "Event loop lag",
            "s",
            "How late the last tick of the slowest worker was.",
            {"max by (instance) (lockgate_event_loop_lag_seconds)": "{{instance}}"},
        ),
        Panel(
            "Attempts at upstreams, p95",
            "s",
            "By model and what failed; the OpenTelemetry GenAI histogram.",
            {quantile(0.95, "gen_ai_client_operation_duration_seconds", "", "gen_ai_request_model"): "{{gen_ai_request_model}}"},
        ),
        Panel(
            "Calls by GenAI name, p95",
            "s",
            "The same as the whole call, under the name other tools know.",
            {quantile(0.95, "gen_ai_server_request_duration_seconds", "", "gen_ai_request_model"): "{{gen_ai_request_model}}"},
        ),
        Panel(
            "First token and per token by GenAI name, p95",
            "s",
            "Under the names other tools know.",
            {
                quantile(0.95, "gen_ai_server_time_to_first_token_seconds"): "first token",
                quantile(0.95, "gen_ai_server_time_per_output_token_seconds"): "per output token",
            },
        ),
        Panel(
            "Tokens of a call, p95",
            "short",
            "Large prompts wait longer: input and output tokens.",
            {quantile(0.95, "gen_ai_client_token_usage", "", "gen_ai_token_type"): "{{gen_ai_token_type}}"},
        ),
    ),
    (("model", "lockgate_requests_total"),),
)
