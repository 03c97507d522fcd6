"""The JSON Schema: the committed file is current, and it agrees with the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.config import load as config
from gateway.config.load import ConfigError
from gateway.config.schema import schema, schema_text
from tests.support.each import each

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "config" / "gateway.yaml", *sorted((ROOT / "config" / "examples").glob("*.yaml"))]
BASE = {"providers": {"local": {}}, "models": {"m": "local/x"}}


def errors(document: Any) -> list[str]:
    """Return the errors that the schema finds."""
    return [error.message for error in jsonschema.Draft202012Validator(json.loads(schema_text())).iter_errors(document)]


def test_the_committed_schema_is_the_generated_one() -> None:
    assert (ROOT / "config" / "schema.json").read_text() == schema_text(), "run: lockgate schema > config/schema.json"


def test_the_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@each("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_file_refers_to_the_schema_and_matches_it(path: Path) -> None:
    first, _, rest = path.read_text().partition("\n")
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == ROOT / "config" / "schema.json"
    # dates stay text, as in editors and in the reader
    loader = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": _without_dates()})
    assert errors(yaml.load(rest, Loader=loader)) == []


def _without_dates() -> dict[str, Any]:
    found = yaml.SafeLoader.yaml_implicit_resolvers
    return {letter: [each for each in pairs if not each[0].endswith(":timestamp")] for letter, pairs in found.items()}


@each(
    "extra",
    [
        {"lisen": "x"},
        {"listen": 8080},
        {"listen": "8080"},
        {"providers": {"a/b": {}}},
        {"providers": {"local": {"timeout": 60}}},
        {"providers": {"local": {"timeout": "60"}}},
        {"providers": {"local": {"slots": "many"}}},
        {"providers": {"local": {"colour": "red"}}},
        {"providers": {"openai": {"api_key": "sk-in-the-file"}}},
        {"providers": {"openai": {"api_key": []}}},
        {"models": {"m": []}},
        {"models": {"m": {}}},
        {"models": {"a*b": "local/x"}},
        {"models": {"m": {"local/x": "heavy"}}},
        {"models": {"m": {"timeout": "1s"}}},
        {"models": {"m": {"targets": "local/x", "retries": 11}}},
        {"keys": {"k": {}}},
        {"keys": {"k": {"hash": "abc"}}},
        {"auth": "nobody"},
        {"auth": None},
        {"models": {"m": {"targets": "local/x", "retries": None}}},
        {"models": {"m": {"targets": "local/x", "limits": None}}},
        {"models": {"m": {"targets": "local/x", "limits": {"requests": None}}}},
        {"teams": {"t": None}},
        {"teams": {"t": {"models": None}}},
        {"max_body": "32M"},
        {"store": "sqlite://"},
        {"strict": "yes"},
        {"tls": {"cert": "x"}},
        {"cors": "*"},
    ],
)
def test_the_reader_refuses_what_the_schema_refuses(extra: dict[str, Any]) -> None:
    document = {**BASE, **extra}
    assert errors(document)
    with pytest.raises(ConfigError):
        config.parse(json.dumps(document).encode(), "x.yaml", environ={})


@each(
    "extra",
    [
        {"listen": "${HOST}:${PORT}"},
        {"strict": "${STRICT}"},
        {"providers": {"local": None}},
        {"providers": {"local": {"slots": "${SLOTS}", "memory": "2GiB"}}},
        {"admin": "127.0.0.1:9"},
        {"models": {"m": [{"local/x": 1}, "n"], "n": {"targets": "local/y", "retries": 2}}},
        {"teams": None, "keys": None},
        {"max_body": 1000},
    ],
)
def test_the_schema_accepts_what_the_reader_accepts(extra: dict[str, Any]) -> None:
    document = {**BASE, **extra}
    environ = {"HOST": "127.0.0.1", "PORT": "1", "STRICT": "false", "SLOTS": "3"}
    assert config.parse(json.dumps(document).encode(), "x.yaml", environ=environ)
    assert errors(document) == []
