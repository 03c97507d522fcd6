"""Settings for metrics and traces."""

from __future__ import annotations

import pytest

from gateway.config.load import ConfigError, parse
from gateway.config.telemetry import MetricsConfig, TracesConfig
from tests.support.each import each


def test_traces_are_off_by_default() -> None:
    config = parse(b"models: {}", "gateway.yaml", environ={})
    assert (config.traces, config.metrics) == (None, MetricsConfig(max_series=2000))


def test_all_settings_are_read() -> None:
    text = b"""
metrics: { max_series: 500 }
traces: { endpoint: "http://collector:4318/", headers: { x-key: "${KEY}" }, sample: 0.25, capture_content: true }
"""
    config = parse(text, "gateway.yaml", environ={"KEY": "secret"})
    assert config.metrics == MetricsConfig(500)
    traces = config.traces
    assert isinstance(traces, TracesConfig)
    assert (traces.endpoint, traces.sample, traces.capture_content) == ("http://collector:4318", 0.25, True)
    assert traces.headers["x-key"].reveal() == "secret"


@each(
    "text", ["metrics: { max_series: 499 }", "traces: { sample: 1.1 }", "traces: { endpoint: 'grpc://c:4317' }", "traces: {colour: 1}"]
)
def test_invalid_settings_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text.encode(), "gateway.yaml", environ={})
