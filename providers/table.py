"""The page of the docs that says what every provider takes, made from the rules: `python -m providers.table > docs/providers.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import providers
from providers.openai_compatible import OpenAICompatible
from providers.rules.engine import CANONICAL, ForModels

HEAD = """# Providers

What each provider takes and what the gateway does with the rest. Made from the rules by `python -m providers.table`; a test
compares this page with them.

A parameter that is *adjusted* keeps its meaning under another name or form. One that is *dropped* is reported in
`x-gateway-adjusted`, and refused with 400 in strict mode unless its value asks for nothing (`n: 1`, a penalty of 0). Values out
of a range are clamped and reported, and refused in strict mode.
"""


def page() -> str:
    """The whole page as Markdown."""
    sections = ["\n".join(_section(kind)) for kind in providers.OURS]
    return HEAD + "\n" + "\n\n".join(sections) + "\n"


def _section(kind: str) -> Iterator[str]:
    found = providers.get(kind)
    assert isinstance(found, OpenAICompatible)
    wire = found.wire
    yield f"## {wire.label} (`type: {kind}`)\n"
    base = f"`{wire.base_url}`" if wire.base_url else "none, `base_url` must be given"
    yield f"- address: {base}; operations: {', '.join(f'{name} `{path}`' for name, path in wire.paths.items())}"
    yield f"- credential: {'required' if wire.needs_credential else 'optional'}"
    settings = [name for name in getattr(wire.options, "__struct_fields__", ()) if name != "max_fanout"]
    if settings:
        yield f"- settings: {', '.join(f'`{name}`' for name in settings)}"
    unknown = {"drop": "dropped and reported", "pass": "passed untouched", "new": "passed untouched when no vendor we know has them"}
    yield f"- fields without a rule: {unknown[wire.unknown]}"
    if wire.source:
        yield f"- facts: {wire.source}"
    table = found.capabilities("")
    yield from _parameters(table)
    for special in found.rules:
        if isinstance(special, ForModels):
            yield from _family(found, special, table)


def _parameters(table: Mapping[str, Any]) -> Iterator[str]:
    groups: dict[str, list[str]] = {"yes": [], "adjusted": [], "no": []}
    for name, entry in table.items():
        if entry["support"] in groups and (name in CANONICAL or entry["support"] != "yes"):
            groups[entry["support"]].append(f"`{name}`{_detail(entry)}")
    for support, title in (("yes", "takes"), ("adjusted", "adjusts"), ("no", "drops")):
        if groups[support]:
            yield f"- {title}: {', '.join(groups[support])}"


def _family(found: OpenAICompatible, special: ForModels, general: Mapping[str, Any]) -> Iterator[str]:
    table = found.capabilities(special.prefixes[0])
    changed = {name: entry for name, entry in table.items() if entry != general.get(name)}
    if changed:
        told = ", ".join(f"`{name}` {_word(entry)}{_detail(entry)}" for name, entry in changed.items())
        yield f"- models {', '.join(f'`{prefix}…`' for prefix in special.prefixes)}: {told}"


def _word(entry: Mapping[str, Any]) -> str:
    words = {"yes": "taken", "adjusted": "adjusted", "no": "dropped", "passed": "passed"}
    return words[entry["support"]]


def _detail(entry: Mapping[str, Any]) -> str:
    said = []
    if "to" in entry:
        said.append(f"as `{entry['to']}`")
    elif "action" in entry:
        said.append(str(entry["action"]).replace("_", " "))
    if "min" in entry or "max" in entry:
        said.append(_range(entry))
    if entry.get("values"):
        said.append(" ".join(map(str, entry["values"])))
    for key, words in (("max_items", "at most {}"), ("default", "default {}"), ("needs", "with `{}`"), ("advice", "{}")):
        if key in entry:
            said.append(words.format(entry[key]))
    if "excludes" in entry:
        said.append("not with " + ", ".join(f"`{name}`" for name in entry["excludes"]))
    if entry.get("refused"):
        said.append("refused in both modes")
    for key in ("roles", "content"):
        if key in entry:
            said.append(f"{key}: {' '.join(entry[key])}")
    return f" ({'; '.join(said)})" if said else ""


def _range(entry: Mapping[str, Any]) -> str:
    if "max" not in entry:
        return f"from {entry['min']:g}"
    return f"up to {entry['max']:g}" if "min" not in entry else f"{entry['min']:g} to {entry['max']:g}"


if __name__ == "__main__":
    sys.stdout.write(page())
