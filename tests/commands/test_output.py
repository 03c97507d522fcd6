"""Output and arguments that commands share."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from gateway.commands.dry_run import dry_run_generation
from gateway.commands.models import as_text, as_yaml
from gateway.commands.options import Duration
from gateway.commands.output import load_config, print_json, read_file
from gateway.commands.usage import table

YAML = 'providers: {up: {type: vllm, base_url: "http://h/v1"}}\nmodels: {m: [up/a, {up/b: 3, up/c: 1}]}\n'


@pytest.fixture
def config_path(tmp_path: Path) -> str:
    """Return the path of a configuration file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(YAML)
    return str(path)


def test_route_as_yaml_and_as_text(config_path: str) -> None:
    route = load_config(config_path).models["m"].targets
    assert as_yaml(route) == ["up/a", {"up/b": 3, "up/c": 1}]
    assert as_text(route) == "up/a, then up/b (75%) or up/c (25%)"


def test_dry_run_generation_has_the_router_of_the_file(config_path: str) -> None:
    generation = dry_run_generation(config_path)
    names = [each.backend.target.name for each in generation.router.all_candidates(generation.router.find("m"))]
    assert names == ["up/a", "up/b", "up/c"]


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("5s", 5.0), ("2m", 120.0)])
def test_duration_is_converted_to_seconds(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


def test_duration_without_a_unit_is_a_usage_error() -> None:
    with pytest.raises(click.BadParameter, match="expected a duration"):
        Duration().convert("5", None, None)


def test_json_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1]})
    assert capsys.readouterr().out == '{\n  "a": [\n    1\n  ]\n}\n'


def test_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"cannot read .*missing: No such file or directory"):
        read_file(str(tmp_path / "missing"))


def test_usage_table_is_aligned_with_the_total_last() -> None:
    row = {"requests": 1200, "prompt_tokens": 5, "cached_tokens": 0, "output_tokens": 7, "reasoning_tokens": 0}
    row["cost_usd"] = 0.5  # type: ignore[assignment]
    usage = {
        "by": "key",
        "rows": [{"key": "app\x1b", **row}],
        "total": {**row, "estimated": 2},
        "from": "2026-11-01",
        "to": "2026-11-30",
        "source": "process",
    }
    lines = table(usage).splitlines()
    assert lines[0].split() == ["key", "requests", "prompt", "cached", "output", "reasoning", "unpriced", "USD"]
    assert lines[1].split() == ["app?", "1,200", "5", "0", "7", "0", "0", "0.5000"]
    assert lines[2].split()[0] == "total"
    assert lines[-1] == "2026-11-01 to 2026-11-30, UTC; this process only; 2 calls with estimated tokens"
    assert "; the workers of this gateway only; " in table({**usage, "source": "workers"})
    assert "; some workers of this gateway only; the others did not answer; " in table({**usage, "source": "some_workers"})
    assert "only" not in table({**usage, "source": "store"})


def test_json_has_no_characters_that_control_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "\x1b[2J\x9b31m\x7f\u202e\U000e0001", "b": "Zürich 日本 👍\n"}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert all(letter == "\n" or letter.isprintable() for letter in printed)
    assert "Zürich 日本 👍" in printed
