"""Dashboard Health: processes, configuration and load."""

from __future__ import annotations

from panels import Dashboard, Panel, stat
from promql import ANY, rare, rate

HEALTH = Dashboard(
    "health",
    "Health",
    "Instances, versions, configuration and load of the gateway processes.",
    (
        stat("Instances up", "short", "Gateways that Prometheus can scrape.", 'sum(up{job=~".*lockgate.*"})'),
        stat("Workers", "short", "Processes that serve callers.", "sum(lockgate_workers)"),
        stat(
            "Configuration",
            "short",
            "Whether the last reload succeeded.",
            "min(lockgate_config_last_reload_successful)",
            words=(("1", "up to date"), ("0", "rejected")),
        ),
        stat(
            "Time since the last reload",
            "s",
            "Time since the last reload attempt, successful or not, or since the start.",
            "time() - max(lockgate_config_last_reload_timestamp_seconds)",
        ),
        stat(
            "Internal errors",
            "short",
            "Calls of the last hour that failed because of an error in the gateway.",
            rare("sum(increase(lockgate_internal_errors_total[1h]))"),
            ANY,
        ),
        stat(
            "Log lines dropped",
            "short",
            "Lines dropped in the last hour because the reader of the log was too slow or a write failed.",
            rare("sum(increase(lockgate_log_drops_total[1h]))"),
            ANY,
        ),
        stat(
            "Call records dropped",
            "short",
            "Calls of the last hour that are not in the records, for example because the disk was full.",
            rare("sum(increase(lockgate_call_record_drops_total[1h]))"),
            ANY,
        ),
        Panel(
            "Up",
            "short",
            "1 while Prometheus can scrape an instance; draining is 1 during shutdown.",
            {'up{job=~".*lockgate.*"}': "{{instance}}", "lockgate_draining": "{{instance}} draining"},
        ),
        Panel(
            "Event loop lag",
            "s",
            "Delay of the latest event loop tick, in the slowest worker.",
            {"max by (instance) (lockgate_event_loop_lag_seconds)": "{{instance}}"},
        ),
        Panel(
            "Reloads",
            "short",
            "Reloads of the last hour by outcome, and the active generation.",
            {
                rare("sum by (outcome) (increase(lockgate_config_reloads_total[1h]))"): "{{outcome}}",
                "max by (instance) (lockgate_config_generation)": "generation of {{instance}}",
            },
        ),
        Panel(
            "Version",
            "short",
            "Instances by version. Two versions are normal only during a rollout.",
            {"count by (version, python) (lockgate_build_info)": "{{version}} on Python {{python}}"},
        ),
        Panel(
            "Local engine",
            "short",
            "1 while the engine is ready; calls in its slots and calls waiting for a slot.",
            {
                "max by (provider) (lockgate_engine_ready)": "{{provider}} ready",
                "sum by (provider) (lockgate_engine_running)": "{{provider}} running",
                "sum by (provider) (lockgate_engine_waiting)": "{{provider}} waiting",
            },
        ),
        Panel(
            "Discovered models",
            "short",
            "Number of models in the last list of each provider with `discover`; `up` is 0 if the last request for the list failed.",
            {
                "max by (provider) (lockgate_discovered_models)": "{{provider}} models",
                "min by (provider) (lockgate_discovery_up)": "{{provider}} up",
            },
        ),
        Panel(
            "Restarts",
            "short",
            "Restarts of the local engine and of workers in the last hour.",
            {
                rare("sum by (provider) (increase(lockgate_engine_restarts_total[1h]))"): "engine {{provider}}",
                rare("sum(increase(lockgate_worker_restarts_total[1h]))"): "workers",
            },
        ),
        Panel(
            "Calls without a valid key",
            "reqps",
            "Rejected calls by reason, rejected connections by reason, and keys revoked at run time.",
            {
                rare(rate("lockgate_auth_failures_total", "", "reason")): "{{reason}}",
                rare(rate("lockgate_edge_refusals_total", "", "reason")): "connection: {{reason}}",
                "max(rate(lockgate_keys_revoked_total[$__rate_interval])) or vector(0)": "keys revoked",
            },
        ),
        Panel(
            "Notifications",
            "short",
            "Notifications of the last hour by event and outcome: sent, failed or dropped.",
            {rare("sum by (event, outcome) (increase(lockgate_notifications_total[1h]))"): "{{event}} {{outcome}}"},
        ),
        Panel(
            "Hooks",
            "reqps",
            "Refusals and failures of hooks.",
            {
                rare(rate("lockgate_hook_refusals_total", "", "hook, point")): "refused: {{hook}} {{point}}",
                rare(rate("lockgate_hook_failures_total", "", "hook, point, reason")): "failed: {{hook}} {{point}} {{reason}}",
            },
        ),
        Panel(
            "Keys of token issuers",
            "s",
            "Time since the last successful fetch of the public keys of an issuer.",
            {rare("time() - min by (issuer) (lockgate_issuer_keys_timestamp_seconds > 0)"): "{{issuer}}"},
        ),
        Panel(
            "Fetches of issuers' keys",
            "reqps",
            "Fetches of the public keys of token issuers, by outcome.",
            {rare(rate("lockgate_issuer_key_fetches_total", "", "issuer, outcome")): "{{issuer}}: {{outcome}}"},
        ),
        Panel(
            "Series",
            "short",
            "Series per instance. At the maximum, further label values become `other`.",
            {"max by (instance) (lockgate_series)": "{{instance}}", 'scrape_samples_scraped{job=~".*lockgate.*"}': "{{instance}} scraped"},
        ),
    ),
)
