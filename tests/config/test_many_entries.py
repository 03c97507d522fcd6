"""Files with many keys and models: the work at load grows only with their number, and garbage collections do not grow at all."""

from __future__ import annotations

import gc

import pytest

from gateway.config.load import parse
from gateway.config.types import Config
from tests.support.counting import python_calls

MORE = 50


def read(keys: int, models: int = 1, settings: str = "", route: str = "v/m") -> Config:
    """Return a configuration with these numbers of entries. `settings` are those of each key."""
    lines = [
        'providers: { v: { type: vllm, base_url: "http://127.0.0.1:1/v1", prices: { m: { prompt: 1, output: 1 } } } }',
        "models:",
        *(f"  model-{number}: {route}" for number in range(models)),
        "keys:",
        *(f'  key-{number}: {{ hash: "sha256:{number:064x}"{settings} }}' for number in range(keys)),
    ]
    return parse("\n".join(lines).encode(), "g.yaml", environ={})


def calls(keys: int, models: int = 1, settings: str = "", route: str = "v/m") -> int:
    """Return the number of function calls while a configuration is read."""
    return python_calls(lambda: read(keys, models, settings, route))


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        pytest.param("", 50, id="plain"),
        pytest.param(", limits: { requests: 600/min, tokens: 200k/min }", 150, id="rates"),
        pytest.param(", limits: { spend: 5 USD/day }, models: [model-0, model-*]", 190, id="budget-and-models"),
    ],
)
def test_a_key_takes_few_function_calls(settings: str, most: int) -> None:
    calls(1, 1, settings)  # fills the caches
    assert calls(1 + MORE, 1, settings) - calls(1, 1, settings) <= most * MORE


@pytest.mark.parametrize(("route", "most"), [pytest.param("v/m", 30, id="target"), pytest.param("[v/m, v/n]", 70, id="order")])
def test_a_model_takes_few_function_calls(route: str, most: int) -> None:
    calls(1, 1, "", route)
    assert calls(1, 1 + MORE, "", route) - calls(1, 1, "", route) <= most * MORE


@pytest.mark.parametrize("models", ["", ", models: [model-*]"], ids=["all-models", "pattern"])
def test_a_key_with_a_budget_takes_no_more_calls_if_there_are_more_models(models: str) -> None:
    settings = f", limits: {{ spend: 5 USD/day }}{models}"
    calls(1, 1, settings)
    with_few, with_many = (calls(1 + MORE, number, settings) - calls(1, number, settings) for number in (1, 1 + MORE))
    assert with_many <= with_few + MORE


def test_entries_are_not_visited_by_garbage_collections() -> None:
    settings = ", models: [model-0], limits: { requests: 600/min }"
    kept = read(1, 1, settings)
    gc.collect()
    before = len(gc.get_objects())
    more = read(1 + MORE, 1 + MORE, settings, "[v/m, v/n]")
    gc.collect()
    assert len(gc.get_objects()) - before < MORE // 2
    assert (len(kept.keys), len(more.keys)) == (1, 1 + MORE)


def test_the_tree_of_a_file_is_freed_without_a_garbage_collection() -> None:
    read(1)
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        read(MORE, MORE, ", limits: { requests: 600/min }")
        assert gc.collect() == 0
    finally:
        if was_enabled:
            gc.enable()
