"""The configuration for display: written as in the YAML, without secrets."""

from __future__ import annotations

import json

from gateway.config.load import parse
from gateway.config.masked import MASK, masked, masked_value

SECRET = "canary-5e2f0d"
YAML = f"""
listen: 127.0.0.1:9
store: redis://u:${{S}}@h:1/0
max_body: 5MiB
store_deadline: 70ms
providers:
  o:
    type: openai
    api_key: "${{S}}"
    headers: {{ x-a: "${{S}}" }}
    proxy: "http://u:${{S}}@p:1"
    prices: {{ "*": {{ prompt: 1, output: 2 }} }}
  local: {{ slots: 3 }}
models:
  m: {{ targets: [o/a, {{ o/b: 3, local/c: 1 }}], timeout: 90s }}
keys:
  k: {{ hash: "sha256:{"ab" * 32}", expires: 2027-01-31, limits: {{ requests: 600/min, spend: 2.5 USD/day }} }}
"""


def test_values_are_written_as_in_the_yaml() -> None:
    shown = masked(parse(YAML.encode(), "gateway.yaml", environ={"S": SECRET}))
    assert (shown["listen"], shown["max_body"], shown["store_deadline"]) == ("127.0.0.1:9", "5MiB", "70ms")
    assert shown["models"]["m"]["targets"] == ["o/a", {"o/b": 3.0, "local/c": 1.0}]
    assert shown["models"]["m"]["timeout"] == "90s"
    assert shown["keys"]["k"]["limits"]["requests"] == "600/min"
    assert shown["keys"]["k"]["limits"]["spend"] == "2.5 USD/day"
    assert shown["keys"]["k"]["expires"] == "2027-02-01T00:00:00+00:00"
    assert shown["providers"]["local"]["slots"] == 3
    assert json.dumps(shown)


def test_a_lifetime_in_days_is_written_in_days() -> None:
    assert [masked_value(seconds, "lifetime") for seconds in (30 * 86_400.0, 86_400.0, 43_200.0, 0.5)] == ["30d", "1d", "43200s", "500ms"]


def test_secrets_are_masked() -> None:
    shown = masked(parse(YAML.encode(), "gateway.yaml", environ={"S": SECRET}))
    assert shown["providers"]["o"]["api_key"] == [MASK]
    assert shown["providers"]["o"]["headers"] == {"x-a": MASK}
    assert shown["store"] == "redis://***@h:1/0"
    assert shown["keys"]["k"]["hash"] == "sha256:abababab..."
    assert SECRET not in json.dumps(shown)


def test_a_value_of_an_unknown_type_is_masked() -> None:
    assert masked_value(object()) == MASK
