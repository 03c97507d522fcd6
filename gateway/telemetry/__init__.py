"""Telemetry of calls: log lines, records, traces and per-call metrics."""
