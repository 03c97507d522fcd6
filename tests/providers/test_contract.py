"""The provider contract is complete: the gateway uses only declared members, and older plugins get the defaults."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from providers.base import Options, Provider, StreamDecoder, Target
from providers.conformance import problems
from providers.plugins import with_defaults
from tests.fixtures.plugin.lockgate_shout import SHOUT, Shout

ROOT = Path(__file__).parents[2]
MEMBERS = {
    name
    for contract in (Provider, StreamDecoder)
    for name in (*inspect.get_annotations(contract), *vars(contract))
    if not name.startswith("_")
}
OPTIONAL = ("options_type", "operations", "caller_headers", "always_streams", "prefill", "probabilities")
HOLDERS = (".kind", "decoder", "inner")
"""Endings of the expressions that hold a provider or a stream decoder in the gateway."""
EXEMPT = {"providers/plugins.py", "providers/conformance.py"}
"""Modules that complete older plugins or check what a plugin declares."""


def _dynamic_lookups(path: Path) -> Iterator[str]:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)) if "attr(" in text else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            holder = ast.unparse(node.args[0])
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            if holder.endswith(HOLDERS) or (name in MEMBERS and name not in ("type", "headers")):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_nothing_looks_up_a_member_of_a_provider_or_decoder_by_name() -> None:
    files = [path for package in ("gateway", "providers") for path in (ROOT / package).rglob("*.py")]
    result = [line for path in files if str(path.relative_to(ROOT)) not in EXEMPT for line in _dynamic_lookups(path)]
    assert result == []


def test_the_lookup_rule_finds_a_lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text('getattr(target.kind, "anything", None)\nhasattr(thing, "prefill")\ngetattr(thing, "other")\n')
    assert [line.partition(": ")[2] for line in _dynamic_lookups(path)] == [
        "getattr(target.kind, 'anything', None)",
        "hasattr(thing, 'prefill')",
    ]


class OlderDecoder:
    """A decoder without `end`."""

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        return (event.encode(), data)


class OlderPlugin(Shout):
    """A plugin written before the optional members existed. It has one of them by chance."""

    caller_headers = ("x-volume",)

    def decoder(self, target: Target, options: Options) -> Any:
        return OlderDecoder()


def _target(kind: Provider) -> Target:
    return Target("shout/m", "shout", kind, "m", "http://shout.invalid/v1")


def test_a_plugin_that_does_not_subclass_provider_gets_every_default() -> None:
    completed = with_defaults(SHOUT)
    assert {name: getattr(completed, name) for name in OPTIONAL if name != "options_type"} == {
        "operations": {"chat"}, "caller_headers": (), "always_streams": False, "prefill": None, "probabilities": None,
    }  # fmt: skip
    assert completed.options_type is Shout.options_type
    assert completed.probe_headers(_target(completed)) == []
    assert completed.capabilities("m") == SHOUT.capabilities("m")
    assert completed.decoder(_target(completed), Options()) is None


def test_an_older_plugin_keeps_its_own_members_and_its_decoders_get_an_end() -> None:
    completed = with_defaults(OlderPlugin())
    assert completed.caller_headers == ("x-volume",)
    decoder = completed.decoder(_target(completed), Options(stream=True))
    assert decoder is not None
    assert (list(decoder.feed("name", b"data")), list(decoder.end())) == ([b"name", b"data"], [])


class EndingDecoder(OlderDecoder):
    """A decoder with an `end` of its own."""

    def end(self) -> Sequence[bytes]:
        return (b"last",)


class EndingPlugin(OlderPlugin):
    """A plugin whose decoders end their streams."""

    def decoder(self, target: Target, options: Options) -> Any:
        return EndingDecoder()


def test_the_end_of_a_decoder_that_has_one_is_called() -> None:
    completed = with_defaults(EndingPlugin())
    decoder = completed.decoder(_target(completed), Options(stream=True))
    assert decoder is not None
    assert list(decoder.end()) == [b"last"]


def test_an_older_plugin_passes_the_conformance_checks() -> None:
    assert problems(OlderPlugin()) == []  # type: ignore[arg-type]


def test_a_provider_that_subclasses_the_contract_stays_itself() -> None:
    class Newer(Shout, Provider):
        """Inherits the defaults."""

    newer = Newer()
    assert with_defaults(newer) is newer
    assert newer.operations == {"chat"}
