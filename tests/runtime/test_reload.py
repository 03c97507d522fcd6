"""The settings of a changed configuration that apply without a restart."""

from __future__ import annotations

import pytest

from gateway.config.problem import ConfigError
from gateway.runtime.reload import applicable
from tests.runtime.conftest import YAML, config_of

KEY = f'keys: {{ app: {{ hash: "sha256:{"a1" * 32}" }} }}\n'


def test_settings_that_need_a_restart_keep_their_values() -> None:
    running = config_of(YAML + "listen: 127.0.0.1:8080\n")
    changed = config_of(YAML.replace("up/small", "up/tiny") + "listen: 127.0.0.1:9090\n")
    combined = applicable(changed, running)
    assert combined.listen == running.listen
    assert combined.models == changed.models


def test_last_key_cannot_be_removed_unless_authentication_is_configured() -> None:
    running = config_of(YAML + KEY)
    with pytest.raises(ConfigError, match="removing the last key or issuer would open the gateway: set auth: keys"):
        applicable(config_of(), running)
    assert applicable(config_of(YAML + "auth: none\n"), running).keys == {}
