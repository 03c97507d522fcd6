"""Dashboard Latency: time to first token, time per token, whole calls and overhead."""

from __future__ import annotations

from panels import Dashboard, Panel
from promql import MODEL, quantile, rate, three

LATENCY = Dashboard(
    "latency",
    "Latency",
    "Time to first token, time per output token, duration of whole calls, and the overhead of the gateway.",
    (
        Panel(
            "Time to first token",
            "s",
            "From the request head to the first content of a stream.",
            three("lockgate_time_to_first_token_seconds", MODEL),
        ),
        Panel(
            "Time to first token by model, p95",
            "s",
            "95th percentile by model.",
            {quantile(0.95, "lockgate_time_to_first_token_seconds", MODEL, "model"): "{{model}}"},
        ),
        Panel(
            "Time per output token",
            "s",
            "Time between the tokens of a stream, after the first.",
            three("lockgate_time_per_output_token_seconds", MODEL),
        ),
        Panel(
            "Output tokens per second of a stream, by target",
            "short",
            "The inverse of the mean time per token.",
            {
                f"{rate('lockgate_time_per_output_token_seconds_count', MODEL, 'target')}"
                f" / {rate('lockgate_time_per_output_token_seconds_sum', MODEL, 'target')}": "{{target}}"
            },
        ),
        Panel(
            "Whole call", "s", "From the request head to the last byte of the response.", three("lockgate_request_duration_seconds", MODEL)
        ),
        Panel(
            "Whole call by target, p95",
            "s",
            "Long responses take longer, so compare a target with its own past.",
            {quantile(0.95, "lockgate_request_duration_seconds", MODEL, "target"): "{{target}}"},
        ),
        Panel(
            "Gateway overhead", "s", "Time added by the gateway to calls with one attempt.", three("lockgate_overhead_seconds", MODEL)
        ),
        Panel(
            "Event loop lag",
            "s",
            "Delay of the last event loop tick of the slowest worker.",
            {"max by (instance) (lockgate_event_loop_lag_seconds)": "{{instance}}"},
        ),
        Panel(
            "Attempts at upstreams, p95",
            "s",
            "Duration of attempts by upstream model, from the OpenTelemetry GenAI histogram.",
            {quantile(0.95, "gen_ai_client_operation_duration_seconds", "", "gen_ai_request_model"): "{{gen_ai_request_model}}"},
        ),
        Panel(
            "Calls by GenAI name, p95",
            "s",
            "Duration of whole calls, from the OpenTelemetry GenAI histogram.",
            {quantile(0.95, "gen_ai_server_request_duration_seconds", "", "gen_ai_request_model"): "{{gen_ai_request_model}}"},
        ),
        Panel(
            "First token and per token by GenAI name, p95",
            "s",
            "Time to first token and time per output token, from the OpenTelemetry GenAI histograms.",
            {
                quantile(0.95, "gen_ai_server_time_to_first_token_seconds"): "first token",
                quantile(0.95, "gen_ai_server_time_per_output_token_seconds"): "per output token",
            },
        ),
        Panel(
            "Tokens of a call, p95",
            "short",
            "Input and output tokens of a call. Large prompts take longer.",
            {quantile(0.95, "gen_ai_client_token_usage", "", "gen_ai_token_type"): "{{gen_ai_token_type}}"},
        ),
    ),
    (("model", "lockgate_requests_total"),),
)
