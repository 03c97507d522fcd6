"""Configurations with many keys and models: what runs on the event loop at a start and at a reload does not grow with the keys."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from gateway.config.diff import restart_changes
from gateway.runtime.gateway import Gateway
from tests.runtime.conftest import config_of
from tests.support.counting import python_calls

MORE = 200
PER_KEY = 4
"""Function calls per key without settings: only whether it needs a count of tokens is looked up. Keys are made when they are used."""
PER_MODEL = 20
BUDGET = ", limits: { spend: 5 USD/day }"
NewGateway = Callable[..., Gateway]


def text(keys: int, models: int = 1, settings: str = "") -> str:
    """Return the YAML of a configuration with these numbers of entries. `settings` are those of each key."""
    entries = "".join(f'  key-{number}: {{ hash: "sha256:{number:064x}"{settings} }}\n' for number in range(keys))
    routes = "".join(f"  model-{number}: v/m\n" for number in range(models))
    provider = '{ type: vllm, base_url: "http://127.0.0.1:1/v1", prices: { m: { prompt: 1, output: 1 } } }'
    return f"providers: {{ v: {provider} }}\nmodels:\n{routes}keys:\n{entries}"


def calls_to_build(new_gateway: NewGateway, keys: int, models: int = 1) -> int:
    """Return the number of function calls while a gateway is built, without those of the reading of its configuration."""
    content = text(keys, models)
    reading = python_calls(lambda: config_of(content))
    return python_calls(lambda: new_gateway(content)) - reading


async def test_the_objects_of_a_configuration_are_made_with_few_function_calls(new_gateway: NewGateway) -> None:
    calls_to_build(new_gateway, 1)  # fills the caches
    few, with_keys, with_models = (calls_to_build(new_gateway, *counts) for counts in ((1, 1), (1 + MORE, 1), (1, 1 + MORE)))
    assert with_keys - few <= PER_KEY * MORE
    assert with_models - few <= PER_MODEL * MORE


async def test_a_known_key_is_made_once(new_gateway: NewGateway) -> None:
    secret = "sk-a-secret-of-a-caller"
    keys = new_gateway(f"{text(3)}  mine: {{ hash: 'sha256:{sha256(secret.encode()).hexdigest()}' }}\n").generation.keys
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    first = keys.authenticate(headers)
    assert first is not None
    assert first.name == "mine"
    assert keys.authenticate(headers) is first
    keys.set_runtime_keys({})
    assert keys.authenticate(headers) == first


def test_changes_that_need_a_restart_are_found_without_comparing_keys() -> None:
    old, new = config_of(text(1)), config_of(f"listen: 127.0.0.1:9\n{text(1)}")
    many, changed = config_of(text(1 + MORE, 1, BUDGET)), config_of(f"listen: 127.0.0.1:9\n{text(1 + MORE)}")
    assert [change.name for change in restart_changes(many, changed)] == ["listen"]
    assert python_calls(lambda: restart_changes(many, changed)) == python_calls(lambda: restart_changes(old, new))


async def test_only_the_owners_of_shown_budgets_are_looked_up(new_gateway: NewGateway) -> None:
    few, many = (new_gateway(text(1 + number, 1, BUDGET)).generation for number in (0, MORE))
    limits = [generation._declared_limits(["key:key-0"]) for generation in (few, many)]
    assert [[limit.owner for limit in found] for found in limits] == [["key:key-0"]] * 2
    costs = [python_calls(lambda each=each: each._declared_limits(["key:key-0"])) for each in (few, many)]  # type: ignore[misc]
    assert costs[0] == costs[1]
