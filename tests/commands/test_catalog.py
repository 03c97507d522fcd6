"""`lockgate catalog update`, and the warning of `lockgate check`: output, exit codes, files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog import read_overlay
from gateway.commands import catalog
from gateway.commands.cli import run
from tests.support.each import each

API = {"openai": {"id": "openai", "models": {"gpt-9": {"cost": {"input": 1, "output": 2}, "limit": {"context": 1000, "output": 100}}}}}
OTHER = {"mine": {"id": "mine", "models": {"m": {"cost": {"input": 1, "output": 2}}}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an api.json of 2026-11-01, in which commands run."""
    (tmp_path / "api.json").write_text(json.dumps({**API, **OTHER}))
    os.utime(tmp_path / "api.json", (1_793_491_200, 1_793_491_200))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_update_shows_the_differences_and_writes_an_overlay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "+ openai/gpt-9: context 1000, input price 1, output 100, output price 2\n"
    assert run(["catalog", "update", "--from", "api.json", "--dry-run"]) == 0
    assert capsys.readouterr().out == line + "models.dev of 2026-11-01: 1 new, 0 changed\n"
    assert not (folder / "catalog.json").exists()
    assert run(["catalog", "update", "--from", "api.json", "--vendor", "mine"]) == 0
    assert line in capsys.readouterr().out
    overlay = read_overlay((folder / "catalog.json").read_bytes())
    assert (overlay.as_of, set(overlay.vendors)) == ("2026-11-01", {"openai", "mine"})
    assert run(["catalog", "update", "--from", "api.json", "--as-of", "2026-11-29"]) == 0
    assert "0 new, 0 changed" in capsys.readouterr().out
    assert read_overlay((folder / "catalog.json").read_bytes()).as_of == "2026-11-29"
    assert catalog.MAX_BYTES > 1 << 20


@each(
    ("arguments", "message"),
    [
        (["--from", "none.json"], "none.json: No such file or directory"),
        (["--from", "bad.json"], "bad.json: it is neither"),
        (["--from", "api.json", "--as-of", "tomorrow"], "--as-of"),
        (["--from", "api.json", "--to", "bad.json"], "bad.json: Object missing required field"),
        (["--from", "api.json", "--to", "bad.json", "--as-of", "2026-11-01"], "bad.json: Object missing required field"),
        (["--from", "api.json", "--to", "none/catalog.json"], "none/catalog.json"),
    ],
)
def test_an_unusable_file_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (folder / "bad.json").write_text("{}")
    assert run(["catalog", "update", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert (folder / "bad.json").read_text() == "{}"
    assert {path.name for path in folder.iterdir()} == {"api.json", "bad.json"}


def test_check_warns_of_old_prices(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-some-credential")
    (folder / "gateway.yaml").write_text('catalog: catalog.json\nproviders: {openai: {api_key: "${KEY}"}}\nmodels: {m: openai/gpt-9}\n')
    for as_of, expected in (("2020-01-01", 1), ("9999-01-01", 0)):
        assert run(["catalog", "update", "--from", "api.json", "--as-of", as_of]) == 0
        capsys.readouterr()
        assert run(["check", "gateway.yaml", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["warnings"]) == expected
        assert run(["check", "gateway.yaml"]) == 0
        said = capsys.readouterr()
        assert said.err.count("warning: the catalog's prices of openai/gpt-9 are ") == expected
        assert "ok" in said.out


HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31mgpt\n+ openai/other: input price 0"
GENAI = {"id": "g", "prices": {"input_mtok": 1, "output_mtok": 2}}


@each("entry", [{"cost": {"input": 1, "output": 2}}, {"cost": {"input": "none"}}])
def test_names_of_models_cannot_control_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, Any]) -> None:
    (folder / "api.json").write_text(json.dumps({"openai": {"models": {HOSTILE: entry}}}))
    run(["catalog", "update", "--from", "api.json"])
    printed = "".join(capsys.readouterr())
    assert "title" in printed
    assert all(letter == "\n" or letter.isprintable() for letter in printed)
    assert not any(line.startswith("+ openai/other") for line in printed.splitlines())


@each("model", [{**GENAI, "match": {"or": 5}}, {**GENAI, "prices": {"input_mtok": 10**400}}])
def test_values_of_the_wrong_kind_do_not_cause_a_crash(folder: Path, capsys: pytest.CaptureFixture[str], model: dict[str, Any]) -> None:
    (folder / "prices.json").write_text(json.dumps([{"id": "openai", "models": [model]}]))
    assert run(["catalog", "update", "--from", "prices.json"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_is_read_only_up_to_the_maximum_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file may be a device without an end."""
    assert run(["catalog", "update", "--from", "/dev/zero"]) == 2
    assert "is larger than 64 MiB" in capsys.readouterr().err
