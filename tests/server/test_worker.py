"""A forked worker serves with the configuration of its supervisor, unless that has been replaced in the meantime."""

from __future__ import annotations

from pathlib import Path

from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.server.worker import config_of
from gateway.server.worker_control import LoadRequest

YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  m: up/mock\n"


def test_a_known_configuration_is_used_only_for_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(YAML)
    source = ConfigSource(str(path), Overrides(), {})
    known = source.read()
    path.write_text(YAML + "  n: up/mock\n")
    later = source.read()
    assert config_of(LoadRequest(known.text, 1, {}), known) is known.config
    assert list(config_of(LoadRequest(later.text, 2, {}), known).models) == ["m", "n"]
    parsed = config_of(LoadRequest(known.text, 1, {}), None)
    assert parsed is not known.config
    assert list(parsed.models) == ["m"]
