"""Telemetry of calls: log lines, traces and per-call metrics.

Imported by gateway.pipeline, gateway.runtime, gateway.server, gateway.admin and gateway.commands.
"""
