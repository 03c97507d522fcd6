"""Names that may become label values."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.metrics.declarations import MAX_CODES, MAX_DISCOVERED, MAX_KEYS
from gateway.metrics.names import Names, system_of
from tests.support.metrics import finished_call, record


def test_upstream_error_codes_with_odd_characters_become_other() -> None:
    metrics = Metrics(["smart"], ["a/x"], {"a": "mistral"})
    for code in ("a b", "x" * 100, "", 'q"', "\n", "fine_code-1.2"):
        call = finished_call()
        call.status, call.error = 400, GatewayError("no", code=code, status=400)
        record(metrics, call)
    assert {labels[-1] for labels in metrics.counts["lockgate_requests"]} == {"other", "upstream", "fine_code-1.2"}


def test_only_the_first_discovered_models_become_label_values() -> None:
    names = Names([])
    names.add([], [], {"box": "vllm"})
    for number in range(MAX_DISCOVERED + 1):
        names.add_discovered({f"b-{number}": f"box/{number}"})
    assert (names.model("b-0"), names.target_named("box/0")) == ("b-0", "box/0")
    last = MAX_DISCOVERED
    assert (names.model(f"b-{last}"), names.target_named(f"box/{last}")) == ("other", "box/other")


def test_only_the_first_keys_and_codes_become_label_values() -> None:
    names = Names([])
    for number in range(1000):
        names.key(f"key-{number}")
        names.code(f"code_{number}")
    assert (names.key("key-0"), names.key(f"key-{MAX_KEYS}")) == ("key-0", "other")
    assert (names.code("code_0"), names.code(f"code_{MAX_CODES}")) == ("code_0", "other")


@pytest.mark.parametrize(
    ("provider", "type", "system"),
    [("eu", "azure", "azure.ai.openai"), ("eu", "openai", "openai"), ("gpu-box", "vllm", "gpu-box")],
)
def test_genai_system_is_the_type_unless_the_type_is_generic(provider: str, type: str, system: str) -> None:
    assert system_of(provider, type) == system
    names = Names([])
    names.add([], [], {provider: type})
    assert names.system(provider) == system
