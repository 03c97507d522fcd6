"""The process itself."""

from __future__ import annotations

from panels import Dashboard, Panel, stat
from promql import ANY, rare, rate

HEALTH = Dashboard(
    "health",
    "Health",
    "The process itself: who is up, what it runs, which configuration, and whether it keeps up.",
    (
        stat("Instances up", "short", "Gateways that answer Prometheus.", 'sum(up{job=~".*lockgate.*"})'),
        stat("Workers", "short", "Processes that answer callers.", "sum(lockgate_workers)"),
        stat(
            "Configuration",
            "short",
            "Whether the last reload was taken.",
            "min(lockgate_config_last_reload_successful)",
            words=(("1", "as on disk"), ("0", "refused")),
        ),
        stat("Age of the configuration", "s", "Since it was last read.", "time() - max(lockgate_config_last_reload_timestamp_seconds)"),
        stat(
            "Own errors",
            "short",
            "Calls of the last hour that failed by the gateway's own fault.",
            rare("sum(increase(lockgate_internal_errors_total[1h]))"),
            ANY,
        ),
        stat("Log lines dropped", "short", "In the last hour.", rare("sum(increase(lockgate_log_drops_total[1h]))"), ANY),
        Panel(
            "Up",
            "short",
            "1 while an instance answers Prometheus; draining is 1 while it ends.",
            {'up{job=~".*lockgate.*"}': "{{instance}}", "lockgate_draining": "{{instance}} draining"},
        ),
        Panel(
            "Event loop lag",
            "s",
            "How late the last tick of the slowest worker was.",
            {"max by (instance) (lockgate_event_loop_lag_seconds)": "{{instance}}"},
        ),
        Panel(
            "Reloads",
            "short",
            "Of the last hour, by outcome; the generation that serves.",
            {
                rare("sum by (outcome) (increase(lockgate_config_reloads_total[1h]))"): "{{outcome}}",
                "max by (instance) (lockgate_config_generation)": "generation of {{instance}}",
            },
        ),
        Panel(
            "Version",
            "short",
            "What runs where; two versions at once only while a new one is rolled out.",
            {"count by (version, python) (lockgate_build_info)": "{{version}} on Python {{python}}"},
        ),
        Panel(
            "Local engine",
            "short",
            "1 while it is ready; calls in its slots, and calls that wait for one.",
            {
                "max by (provider) (lockgate_engine_ready)": "{{provider}} ready",
                "sum by (provider) (lockgate_engine_running)": "{{provider}} running",
                "sum by (provider) (lockgate_engine_waiting)": "{{provider}} waiting",
            },
        ),
        Panel(
            "Restarts",
            "short",
            "Of the local engine and of workers, in the last hour.",
            {
                rare("sum by (provider) (increase(lockgate_engine_restarts_total[1h]))"): "engine {{provider}}",
                rare("sum(increase(lockgate_worker_restarts_total[1h]))"): "workers",
            },
        ),
        Panel(
            "Calls without a valid key",
            "reqps",
            "By what was wrong with the key; connections that ended before there was a call; and keys revoked at run time.",
            {
                rare(rate("lockgate_auth_failures_total", "", "reason")): "{{reason}}",
                rare(rate("lockgate_edge_refusals_total", "", "reason")): "no call: {{reason}}",
                "max(rate(lockgate_keys_revoked_total[$__rate_interval])) or vector(0)": "keys revoked",
            },
        ),
        Panel(
            "Series",
            "short",
            "Series that an instance holds; it folds names into `other` at its maximum.",
            {"max by (instance) (lockgate_series)": "{{instance}}", 'scrape_samples_scraped{job=~".*lockgate.*"}': "{{instance}} scraped"},
        ),
    ),
)
