"""Settings of stored responses."""

from __future__ import annotations

import pytest

from gateway.config.load import ConfigError, parse
from gateway.config.responses import DEFAULT_TTL_S, ResponsesConfig
from tests.support.each import each

DAY_S = 24 * 3600.0


def read(text: str) -> ResponsesConfig:
    """Return the settings of a configuration."""
    return parse(text.encode(), "gateway.yaml", environ={}).responses


def test_responses_are_kept_for_thirty_days_by_default() -> None:
    assert (read("models: {}").ttl, DEFAULT_TTL_S) == (30 * DAY_S, 30 * DAY_S)


@each(
    ("ttl", "seconds"),
    [("1d", DAY_S), ("365d", 365 * DAY_S), ("12h", 12 * 3600.0), ("1h30m", 5400.0), ("500ms", 0.5)],
)
def test_lifetime_is_days_or_a_duration(ttl: str, seconds: float) -> None:
    assert read(f"responses: {{ ttl: {ttl}, max_bytes: 1MiB }}") == ResponsesConfig(seconds, 1 << 20)


@each("text", ["ttl: 0d", "ttl: 366d", "ttl: 1.5d", "ttl: 30", "ttl: forever", "max_bytes: -1", "ttls: 1d"])
def test_invalid_settings_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read(f"responses: {{ {text} }}")
