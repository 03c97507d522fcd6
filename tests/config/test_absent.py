"""Variables and files that do not exist are listed instead of refused, where this is allowed."""

from __future__ import annotations

import pytest

from gateway.config.diff import compare
from gateway.config.load import Config, ConfigError, parse
from gateway.config.problem import Problems
from tests.support.each import each

FILE = "gateway.yaml"
PRODUCTION = """\
store: "redis://redis:6379/0"
store_password: file:/nowhere/password
listen: ${ADDRESS}
grace: ${GRACE}
admin: { listen: "0.0.0.0:8081", key_hash: "${ADMIN_HASH}" }
tls: { cert: /nowhere/cert.pem, key: /nowhere/key.pem }
providers:
  openai: { api_key: ["${ONE}", file:/nowhere/two] }
  vllm: { base_url: "${VLLM}", ca: /nowhere/ca.pem, headers: { x-team: "${TEAM}" } }
  azure: { type: azure, base_url: "https://a.openai.azure.com/openai/v1", api_key: "${AZURE}" }
models:
  smart: [openai/gpt-4o, vllm/m]
  "*": ${DEFAULT_TARGET}
keys:
  a: { hash: "${A}", models: [smart] }
  b: { hash: "${B}", limits: { spend: "${BUDGET}" } }
"""
ABSENT = [
    (2, "store_password", "/nowhere/password"), (3, "listen", "ADDRESS"), (4, "grace", "GRACE"), (5, "admin.key_hash", "ADMIN_HASH"),
    (6, "tls.cert", "/nowhere/cert.pem"), (6, "tls.key", "/nowhere/key.pem"), (8, "providers.openai.api_key[0]", "ONE"),
    (8, "providers.openai.api_key[1]", "/nowhere/two"), (9, "providers.vllm.base_url", "VLLM"), (9, "providers.vllm.ca", "/nowhere/ca.pem"),
    (9, "providers.vllm.headers.x-team", "TEAM"), (10, "providers.azure.api_key", "AZURE"), (13, "models.*", "DEFAULT_TARGET"),
    (15, "keys.a.hash", "A"), (16, "keys.b.hash", "B"), (16, "keys.b.limits.spend", "BUDGET"),
]  # fmt: skip


def read(text: str, absent: Problems | None) -> Config:
    """Parse a configuration in an empty environment."""
    return parse(text.encode(), FILE, environ={}, absent=absent)


def test_every_absent_variable_and_file_is_listed_with_its_place() -> None:
    absent = Problems(FILE)
    read(PRODUCTION, absent)
    assert [(one.line, one.path) for one in absent.in_order] == [(line, path) for line, path, _ in ABSENT]
    assert all(name in one.message for one, (_, _, name) in zip(absent.in_order, ABSENT, strict=True))


def test_without_permission_each_is_a_problem() -> None:
    with pytest.raises(ConfigError) as found:
        read(PRODUCTION, None)
    assert {(line, path) for line, path, _ in ABSENT} <= {(one.line, one.path) for one in found.value.problems}


@each(
    ("line", "path"),
    [
        ("keyz: {}", "keyz"),
        ("models: { m: opnai/x }", "models.m"),
        ("providers: { openai: { api_key: '${X' } }", "providers.openai.api_key"),
        ("providers: { openai: { api_key: '${X}', timeout: 5 parsecs } }", "providers.openai.timeout"),
        ("keys: { k: { hash: '${X}', team: none } }", "keys.k.team"),
    ],
)
def test_mistakes_are_still_refused(line: str, path: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(line, Problems(FILE))
    assert path in [one.path for one in found.value.problems]


def test_configurations_are_compared_without_their_secrets() -> None:
    other = PRODUCTION.replace("${ONE}", "${OTHER}").replace("smart: [openai/gpt-4o, vllm/m]", "smart: openai/gpt-4o")
    assert compare(read(PRODUCTION, Problems(FILE)), read(PRODUCTION, Problems(FILE))) == []
    changes = compare(read(PRODUCTION, Problems(FILE)), read(other, Problems(FILE)))
    assert [(one.section, one.name) for one in changes] == [("providers", "openai"), ("models", "smart")]
    assert "OTHER" not in str(changes)
