"""docs/routing.md: every example is loaded, every row of its tables is what the code does.

python -m tests.test_routing_docs    # write its table of failures anew
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from gateway.attempts.hedge import MOST_CREDIT
from gateway.config import load as config
from gateway.config.route import Balance
from gateway.config.types import Config
from gateway.errors import FAILURES
from gateway.targets.latency import ENOUGH
from gateway.upstream.dial import STAGGER
from gateway.upstream.resolver import ThreadResolver
from tests.routing.test_router import names, router

DOC = Path(__file__).parents[2] / "docs" / "routing.md"
ENVIRON = {"OPENAI_API_KEY": "sk-0123456789", "GROQ_API_KEY": "gsk-0123456789"}
_MARK = "<!-- failures -->\n"
_BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def table() -> str:
    """What follows from each kind of failure."""
    rows = ["| failure | the caller sees | then | blame | the caller may retry |", "| --- | --- | --- | --- | --- |"]
    for kind, one in FAILURES.items():
        rows.append(f"| `{kind}` | {one.status} `{one.code}` | {one.then} | {one.blame} | {'yes' if one.again else 'no'} |")
    return "\n".join(rows) + "\n"


def written() -> str:
    """The document with its table as it should be."""
    before, after = DOC.read_text().split(_MARK)
    return f"{before}{_MARK}\n{table()}\n{after[after.index('## ') :]}"


def blocks() -> list[str]:
    """The examples, the shared providers first."""
    return _BLOCK.findall(DOC.read_text())


def load(block: str) -> Config:
    """One example as a configuration."""
    return config.parse((blocks()[0] + block).encode(), "routing.md", environ=ENVIRON)


def test_the_table_of_failures_is_the_codes() -> None:
    assert DOC.read_text() == written(), "python -m tests.test_routing_docs"


@pytest.mark.parametrize("block", blocks()[1:], ids=lambda block: block.split()[1])
def test_every_example_is_a_sound_configuration(block: str) -> None:
    assert load(block).models


def test_every_shape_of_the_table_is_in_the_example_and_goes_where_it_says() -> None:
    shapes = re.findall(r"^\| [^|]+ \| `(\"[^\"]+\"|[\w-]+): ([^`]+)` \|", DOC.read_text(), re.MULTILINE)
    found = load(blocks()[1]).models
    assert [name.strip('"') for name, _ in shapes] == list(found)
    assert all(f"{name}: {route}" in blocks()[1] for name, route in shapes)
    one = router(**{name: model.targets for name, model in found.items()})
    assert names(one, "smart") == ["blue/llama", "openai/gpt-4o"]
    assert names(one, "both") == ["blue/llama", "openai/gpt-4o"]
    assert names(one, "default") == names(one, "gpt-4o") == names(one, "whatever") == ["openai/gpt-4o"]
    assert names(one, "gpt-5") == ["openai/gpt-4o-mini"]
    assert names(one, "nested") == names(one, "smart")


def test_every_balance_has_its_row() -> None:
    section = DOC.read_text().partition("## How a split")[2].partition("## Param")[0]
    assert re.findall(r"^\| `(\w+)`[^|]*\| ", section, re.MULTILINE) == list(get_args(Balance))


@pytest.mark.parametrize("said", [
    f"a percentile needs {ENOUGH:.0f} answers", f"joins after {STAGGER * 1000:.0f} ms", f"kept for {ThreadResolver().ttl:.0f} s",
    "ten may\n  be saved up" if MOST_CREDIT == 10 else "?",
])  # fmt: skip
def test_numbers_in_the_text_are_the_codes(said: str) -> None:
    assert said in DOC.read_text()


if __name__ == "__main__":
    DOC.write_text(written())
