"""docs/routing.md: every example loads, and its tables and numbers match the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from gateway.attempts.hedge_budget import MAX_SAVED_HEDGES
from gateway.config import load as config
from gateway.config.route import Balance
from gateway.config.types import Config
from gateway.targets.latency import MIN_OBSERVATIONS
from gateway.upstream.connect import NEXT_ADDRESS_DELAY_S
from gateway.upstream.resolver import ThreadResolver
from tests.routing.test_router import names, router
from tests.support.each import each

DOC = Path(__file__).parents[2] / "docs" / "routing.md"
ENVIRON = {"OPENAI_API_KEY": "sk-0123456789", "GROQ_API_KEY": "gsk-0123456789", "OPENROUTER_API_KEY": "sk-or-0123456789"}
_BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def blocks() -> list[str]:
    """Return the examples, the shared providers first."""
    return _BLOCK.findall(DOC.read_text())


def load(block: str) -> Config:
    """Return one example as a configuration, with the shared providers unless it has its own."""
    text = block if block.startswith("providers:") else blocks()[0] + block
    return config.parse(text.encode(), "routing.md", environ=ENVIRON)


@each("block", blocks()[1:], ids=lambda block: block.split()[1])
def test_example_loads(block: str) -> None:
    found = load(block)
    assert found.models or all(provider.discovery for provider in found.providers.values())


def test_each_form_of_a_target_is_in_the_example_and_routes_as_described() -> None:
    shapes = re.findall(r"^\| [^|]+ \| `(\"[^\"]+\"|[\w-]+): ([^`]+)` \|", DOC.read_text(), re.MULTILINE)
    found = load(blocks()[1]).models
    assert [name.strip('"') for name, _ in shapes] == list(found)
    assert all(f"{name}: {route}" in blocks()[1] for name, route in shapes)
    one = router(**{name: model.targets for name, model in found.items()})
    assert names(one, "smart") == ["blue/llama", "openai/gpt-4o"]
    assert names(one, "both") == ["blue/llama", "openai/gpt-4o"]
    assert names(one, "default") == names(one, "gpt-4o") == names(one, "whatever") == ["openai/gpt-4o"]
    assert names(one, "gpt-5") == ["openai/gpt-4o-mini"]
    assert names(one, "o-9") == ["openai/o-9"]
    assert names(one, "nested") == names(one, "smart")


def test_each_balance_policy_has_a_row() -> None:
    section = DOC.read_text().partition("## Load balancing\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`[^|]*\| ", section, re.MULTILINE) == list(get_args(Balance))


@each("text", [
    f"a percentile needs {MIN_OBSERVATIONS:.0f} answers", f"starts after {NEXT_ADDRESS_DELAY_S * 1000:.0f} ms",
    f"kept for {ThreadResolver().ttl:.0f} s",
    "which can hold up to ten attempts" if MAX_SAVED_HEDGES == 10 else "?",
])  # fmt: skip
def test_numbers_match_the_code(text: str) -> None:
    assert text in " ".join(DOC.read_text().split())
