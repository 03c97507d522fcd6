"""Telemetry of calls: log lines, traces and per-call metrics."""
