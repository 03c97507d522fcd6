"""Provider types of plugins: their own keys, and messages for mistakes in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from gateway.config import load as config
from gateway.config.load import ConfigError
from gateway.config.schema import schema

PLUGIN = '''
from typing import Annotated, Literal
import msgspec

class Inner(msgspec.Struct, frozen=True):
    region: str
    zones: tuple[int, ...] = ()

class Options(msgspec.Struct, frozen=True, rename={"kind_": "kind"}):
    mode: Literal["fast", "slow", 3] = "fast"
    ratio: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    amount: int | str | None = None
    labels: dict[str, str] = {}
    names: list[Annotated[str, msgspec.Meta(min_length=2, max_length=4, pattern="^[a-z]+$")]] = []
    window: Annotated[float, msgspec.Meta(extra={"form": "duration"})] = 1.0
    chunk: Annotated[int, msgspec.Meta(ge=1024, extra={"form": "size"})] = 4096
    place: Inner | None = None
    kind_: bool = False

    def __post_init__(self):
        if self.mode == "slow" and self.ratio > 0.5:
            raise ValueError("ratio must be at most 0.5 when mode is slow")

class Plugin:
    default_base_url = "http://plugin/v1"
    needs_credential = False
    options_type = Options

PROVIDER = Plugin()
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that installs a plugin: a module with the given source and its entry point, as pip would."""

    def put(kind: str, source: str) -> None:
        module = f"plugin_{kind}"
        (tmp_path / f"{module}.py").write_text(source)
        facts = tmp_path / f"{module}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[gateway.providers]\n{kind} = {module}:PROVIDER\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def message_of(options: str, kind: str) -> str:
    """Return the error message for a provider of the plugin's type with these options."""
    with pytest.raises(ConfigError) as caught:
        config.parse(f"providers: {{{kind}: {options}}}".encode(), "g.yaml", environ={})
    return str(caught.value)


def test_keys_of_a_plugin_are_read_by_their_types(install: Callable[[str, str], None]) -> None:
    install("acme1", PLUGIN)
    text = """
providers:
  acme1:
    mode: 3
    ratio: 0.25
    amount: 12
    labels: {a: "1", b: 2}
    names: [ab, cd]
    window: 2m
    chunk: 2KiB
    place: {region: here, zones: [1, 2]}
    kind: true
"""
    options = config.parse(text.encode(), "g.yaml", environ={}).providers["acme1"].options
    place = options.pop("place")
    assert (place.region, place.zones) == ("here", (1, 2))
    assert options == {
        "mode": 3, "ratio": 0.25, "amount": 12, "labels": {"a": "1", "b": "2"},
        "names": ["ab", "cd"], "window": 120.0, "chunk": 2048, "kind_": True,
    }  # fmt: skip
    mixed = config.parse(b"providers: {acme1: {amount: 12x}}", "g.yaml", environ={}).providers["acme1"].options
    assert (mixed["amount"], mixed["place"], mixed["ratio"]) == ("12x", None, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{mode: fest}", "1:27: providers.acme2.mode: expected one of "),
        ("{ratio: 1}", "providers.acme2.ratio: expected a number, more than 0 and less than 1; got '1'"),
        ("{ratio: nan}", "providers.acme2.ratio: expected a number; got 'nan'"),
        ("{amount: [1]}", "providers.acme2.amount: expected an integer or text"),
        ("{names: ab}", "providers.acme2.names: expected a list, got text"),
        ("{names: [a]}", "providers.acme2.names[0]: expected at least 2 characters; got 'a'"),
        ("{names: [abcde]}", "providers.acme2.names[0]: expected at most 4 characters; got 'abcde'"),
        ("{names: [AB]}", "providers.acme2.names[0]: expected text that matches ^[a-z]+$; got 'AB'"),
        ("{chunk: 1KB}", "providers.acme2.chunk: expected an integer, at least 1024; got '1KB'"),
        ("{place: {zones: [x]}}", "providers.acme2.place.region: missing"),
        ("{place: {zones: [x]}}", "providers.acme2.place.zones[0]: expected an integer; got 'x'"),
        ("{kinds: true}", "providers.acme2.kinds: unknown key, did you mean 'kind'?"),
        ("{mode: slow, ratio: 0.9}", "1:40: providers.acme2.ratio: ratio must be at most 0.5 when mode is slow"),
    ],
)
def test_invalid_values_of_a_plugins_keys_are_reported_at_their_place(
    install: Callable[[str, str], None], options: str, message: str
) -> None:
    install("acme2", PLUGIN)
    assert message in message_of(options, "acme2")


def test_a_plugin_that_cannot_be_loaded_is_reported_without_a_traceback(install: Callable[[str, str], None]) -> None:
    install("acme3", "raise RuntimeError('no licence')")
    message = message_of("{}", "acme3")
    assert message == "g.yaml:1:20: providers.acme3.type: the plugin of this type cannot be loaded: RuntimeError: no licence"


def test_the_schema_has_the_keys_of_installed_plugins(install: Callable[[str, str], None]) -> None:
    install("acme4", PLUGIN)
    found = json.loads(json.dumps(schema()))
    properties = found["properties"]["providers"]["additionalProperties"]["properties"]
    assert properties["ratio"]["description"] == "(acme4)"
    check = jsonschema.Draft202012Validator(found)
    assert check.is_valid({"providers": {"acme4": {"ratio": 0.1, "place": {"region": "x"}, "mode": 3}}})
    assert not check.is_valid({"providers": {"acme4": {"ratio": 1}}})
    assert not check.is_valid({"providers": {"acme4": {"place": {}}}})
