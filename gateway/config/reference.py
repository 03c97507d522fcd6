"""The configuration reference as Markdown: every key with its type, default, description and an example.

The page is generated from the structs that the reader and the JSON Schema use. `lockgate schema --markdown`
prints it, and docs/configuration.md is a copy.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect as mi

import providers
from gateway.config.entry import options_type
from gateway.config.masked import masked_value
from gateway.config.struct_types import keys_of, struct_type
from gateway.config.types import Config

FORMATS_IN_WORDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "duration": (
        "duration",
        "A number with its unit (`ms`, `s`, `m`, `h`), or several such numbers.",
        ("500ms", "60s", "1h30m"),
    ),
    "pause": ("duration or 0", "A duration, or 0 for none.", ("5s", "0s")),
    "lifetime": ("days or duration", "A whole number of days, at most `365d`, or a duration.", ("30d", "12h")),
    "size": ("size", "A number of bytes, or a number with `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.", ("32MiB", "1000")),
    "share": ("percentage", "More than 0% and at most 100%.", ("10%",)),
    "after": ("duration or percentile", "A duration, or a percentile from `p50` to `p99.9`.", ("800ms", "p95")),
    "rate": (
        "rate",
        "A number (optionally with `k`, `M` or `G`) per `s`, `min`, `h` or `day`.",
        ("600/min", "200k/min", "1M/day"),
    ),
    "spend": (
        "budget",
        "An amount in USD per calendar `day`, `week` or `month`, or in `total`.",
        ("50 USD/month", "200 USD/total"),
    ),
    "timezone": ("time zone", "A name from the IANA time zone database.", ("Europe/Berlin", "UTC")),
    "address": (
        "HOST:PORT",
        "An address to listen on. IPv6 addresses are written in brackets.",
        ("127.0.0.1:8080", "[::1]:8080"),
    ),
    "base_url": (
        "URL",
        "An http or https URL without query, fragment or credentials.",
        ("https://api.example.com/v1",),
    ),
    "webhook": (
        "webhook URL",
        "An http or https URL, or `file:PATH` of a file that contains it.",
        ("https://hooks.example.com/services/1",),
    ),
    "proxy": ("URL or `env`", "The URL of a proxy (http, https, socks5, socks5h), or `env`.", ("http://proxy:3128",)),
    "store": ("store URL", "`memory://`, a Redis URL, or `file:PATH` of a file that contains the URL.", ("memory://", "redis://redis:6379/0")),
    "journal": ("folder or `off`", "A folder, or `off`.", ("/var/lib/lockgate", "off")),
    "path": (
        "file",
        "The path of a file. A relative path is resolved against the folder of the YAML file.",
        ("/etc/ssl/ca.pem", "tls.crt"),
    ),
    "secrets": (
        "secret, or list of secrets",
        "`${NAME}` from the environment or `file:PATH`. A secret itself is never written into the YAML file.",
        ("${OPENAI_API_KEY}", "file:/run/secrets/openai"),
    ),
    "header": (
        "text",
        "Printable ASCII without line breaks. `${NAME}` keeps a secret out of the YAML file.",
        ("${TOKEN}",),
    ),
    "tag": (
        "tag",
        "A name of at most 64 letters, digits and `. _ : / = -` that begins with a letter or digit.",
        ("search", "team/web"),
    ),
    "header_name": ("header name", "The name of a request header. Credentials cannot be forwarded.", ("x-tenant",)),
    "key_hash": ("key hash", "`sha256:` and 64 hexadecimal digits, or `file:PATH` of a file with this text.", ()),
    "expires": (
        "date or time",
        "A date, valid to the end of that day (UTC), or a time.",
        ("2027-12-31", "2027-12-31T12:00:00Z"),
    ),
    "https_url": ("https URL", "An https URL without credentials. On loopback, http is accepted as well.", ("https://login.example.com/jwks.json",)),
    "text": ("text, or list of texts", "Printable text, or a list of such texts.", ("lockgate", "[chat, batch]")),
    "claim_value": ("value, or list of values", "Text, a number or a boolean, or a list of these.", ("example.com", "true", "[3, 4]")),
    "host": ("host name", "A host name or address, without a port.", ("gateway.internal", "192.168.1.10")),
    "origin": ("origin", "The origin of a web page, or `*`.", ("https://app.example.com", "*")),
    "network": ("network", "An IP address or network.", ("10.0.0.0/8", "192.168.1.7")),
    "ref": ("target or model", "PROVIDER/MODEL, or a model in this file.", ("openai/gpt-4o", "smart")),
    "route": (
        "route",
        "A target or model, a list of them (an order), or a mapping of them to weights (a split). "
        "An entry of an order may be a split.",
        ("openai/gpt-4o", "[blue/llama, openai/gpt-4o]", "{ blue/llama: 95, green/llama: 5 }"),
    ),
}
"""For each `form` of a type: its name in the tables, its meaning, and examples."""

_INTRODUCTION = """\
# Configuration reference

<!-- Generated by `lockgate schema --markdown`. Edit the descriptions in gateway/config/ instead of this file. -->

This page lists every key of the YAML file. [config/README.md](../config/README.md) explains the concepts, and
[config/examples/](../config/examples/) has complete files to start from. `lockgate check` reports every mistake in a file
with its line and the likely fix.

`${NAME}` and `${NAME:-default}` insert environment variables into any value. A default of "none" means that the setting is
off or has no value.
"""


class Key(msgspec.Struct, frozen=True):
    """One key of the configuration."""

    name: str
    type_name: str
    default: str
    description: str
    example: str
    section: type[msgspec.Struct] | None = None
    """The struct that the value of this key, or each value in its mapping or list, is read into, if any."""


class Section(msgspec.Struct):
    """One struct of the configuration and the paths at which it occurs."""

    description: str
    paths: list[str]
    keys: list[Key]

    @property
    def title(self) -> str:
        """The first path as a heading: only its last part if there are several paths and the first does not end in `.NAME`."""
        path = self.paths[0]
        if len(self.paths) > 1 and not path.endswith(".NAME"):
            path = path.rpartition(".")[2]
        return f"`{path}`" if path else "Top level"

    @property
    def anchor(self) -> str:
        """The anchor that GitHub generates for the heading."""
        return re.sub(r"[^a-z0-9 _-]", "", self.title.lower()).replace(" ", "-")


def reference() -> str:
    """Return the whole reference as Markdown."""
    found = sections()
    parts = [_INTRODUCTION, _contents(found), *(_section_text(section, found) for section in found.values())]
    return "\n".join([*parts, _provider_types_text(), _formats_text()])


def sections() -> dict[type[msgspec.Struct], Section]:
    """Return all sections by their structs: the top level first, sections that occur at several paths last."""
    found: dict[type[msgspec.Struct], Section] = {}
    _collect(Config, "", found)
    return dict(sorted(found.items(), key=lambda item: len(item[1].paths) > 1))


def keys_of_provider_types() -> Iterator[tuple[str, Key]]:
    """Yield each key that only some provider types have, with the names of those types."""
    takers: dict[tuple[str, str], tuple[list[str], Key]] = {}
    for name in providers.types():
        options = options_type(name)
        for field in keys_of(options).values() if options else ():
            key = _key(field)
            takers.setdefault((key.name, key.description), ([], key))[0].append(name)
    for types, key in sorted(takers.values(), key=lambda entry: (entry[0], entry[1].name)):
        yield ", ".join(types), key


def _collect(struct: type[msgspec.Struct], path: str, found: dict[type[msgspec.Struct], Section]) -> None:
    """Add the section of a struct, then those of its keys."""
    if struct in found:
        found[struct].paths.append(path)
        return
    keys = [_key(field) for field in keys_of(struct_type(struct)).values()]
    found[struct] = Section(inspect.getdoc(struct) or "", [path], keys)
    for key in keys:
        if key.section is not None:
            below = f"{path}.{key.name}" if path else key.name
            _collect(key.section, f"{below}.NAME" if "mapping" in key.type_name else below, found)


def _key(field: mi.Field) -> Key:
    kind, extra, words = _unwrap(field.type)
    examples = words.get("examples") or ()
    # A default that is not a plain value is part of the description.
    description, _, default = words.get("description", "").partition("Default: ")
    return Key(
        name=field.encode_name,
        type_name=_type_text(field.type),
        default=default.removesuffix(".") or _default_text(field, extra.get("form")),
        description=description.strip(),
        example=f"{field.encode_name}: {yaml_flow(examples[0])}" if examples else "",
        section=None if "form" in extra else _struct_in(kind),
    )


def _unwrap(kind: mi.Type) -> tuple[mi.Type, dict[str, Any], dict[str, Any]]:
    """Return a type without its metadata and without `| None`, and the metadata of all its layers."""
    extra: dict[str, Any] = {}
    words: dict[str, Any] = {}
    while isinstance(kind, mi.Metadata | mi.UnionType):
        if isinstance(kind, mi.UnionType):
            others = [each for each in kind.types if not isinstance(each, mi.NoneType)]
            if len(others) != 1:
                break
            kind = others[0]
            continue
        extra = {**(kind.extra or {}), **extra}
        words = {**(kind.extra_json_schema or {}), **words}
        kind = kind.type
    return kind, extra, words


def _struct_in(kind: mi.Type) -> type[msgspec.Struct] | None:
    """Return the struct of a type, or of the values of a mapping or list unless they have a text format, or None."""
    if isinstance(kind, mi.UnionType):
        return next((struct for each in kind.types if isinstance(each, mi.DictType) and (struct := _struct_in(each))), None)
    if isinstance(kind, mi.DictType | mi.VarTupleType | mi.ListType):
        kind, extra, _ = _unwrap(kind.value_type if isinstance(kind, mi.DictType) else kind.item_type)
        return _struct_in(kind) if "form" not in extra else None
    return kind.cls if isinstance(kind, mi.StructType) else None


def _type_text(annotated: mi.Type) -> str:
    kind, extra, _ = _unwrap(annotated)
    if extra.get("form") in FORMATS_IN_WORDS:
        word = FORMATS_IN_WORDS[extra["form"]][0]
        return f"{word}, or list of {word}s" if extra["form"] in ("rate", "spend") else word
    if isinstance(kind, mi.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, mi.IntType | mi.FloatType):
        return ("integer" if isinstance(kind, mi.IntType) else "number") + _bounds_text(kind)
    if isinstance(kind, mi.VarTupleType | mi.ListType):
        item = _type_text(kind.item_type)
        if isinstance(kind.item_type, mi.LiteralType):
            return f"list of {item}"
        return "list of names" if item == "text" else f"list of {item}" + ("" if item.startswith("settings") else "s")
    if isinstance(kind, mi.DictType):
        return (
            "mapping"
            if isinstance(kind.value_type, mi.AnyType)
            else f"mapping of names to {_type_text(kind.value_type)}"
        )
    if isinstance(kind, mi.UnionType) and any(isinstance(each, mi.DictType) for each in kind.types):
        return ", or ".join(_type_text(each) for each in kind.types if not isinstance(each, mi.NoneType))
    if isinstance(kind, mi.StructType):
        short = extra.get("short")
        field = next((each for each in kind.fields if each.name == short), None)
        return "settings" if field is None else f"settings, or {_type_text(field.type)} (`{short}`)"
    return {mi.BoolType: "boolean", mi.StrType: "text"}.get(type(kind), "value")


def _bounds_text(kind: mi.IntType | mi.FloatType) -> str:
    low, high = kind.ge, kind.le
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    return f", at least {low:,}" if low is not None else ""


def _default_text(field: mi.Field, form: str | None) -> str:
    """Return the default of a field for the table: a value as it is written in the YAML, or words such as `none`."""
    if field.required:
        return "**required**"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is None or value == () or value == {} or value == "":
        return "none"
    if form == "share":
        return f"`{value:.0%}`"
    if isinstance(value, msgspec.Struct) and isinstance(masked_value(value), dict):
        return "see its keys"
    return f"`{yaml_flow(masked_value(value, form))}`"


def yaml_flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{yaml_flow(key)}: {yaml_flow(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z0-9/.~](?:[A-Za-z0-9 ._/+%@~-]|:(?=\S))*", value) else f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _contents(found: dict[type[msgspec.Struct], Section]) -> str:
    lines = [f"- [{section.title}](#{section.anchor})" for section in found.values()]
    return "\n".join(
        [*lines, "- [Keys of provider types](#keys-of-provider-types)", "- [Value formats](#value-formats)", ""]
    )


def _section_text(section: Section, found: dict[type[msgspec.Struct], Section]) -> str:
    lines = [f"## {section.title}", "", section.description, ""]
    if len(section.paths) > 1:
        *paths, last = (f"`{path}`" for path in section.paths)
        lines += [f"The following keys apply to {', '.join(paths)} and {last}.", ""]
    lines += ["| key | type | default | description | example |", "| --- | --- | --- | --- | --- |"]
    for key in section.keys:
        kind = key.type_name if key.section is None else f"[{key.type_name}](#{found[key.section].anchor})"
        lines.append(_row(f"`{key.name}`", kind, key.default, key.description, f"`{key.example}`"))
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _provider_types_text() -> str:
    lines = [
        "## Keys of provider types",
        "",
        "Keys of `providers.NAME` that only some provider types have.",
        "",
        "| key | provider types | type | default | description | example |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for types, key in keys_of_provider_types():
        lines.append(_row(f"`{key.name}`", types, key.type_name, key.default, key.description, f"`{key.example}`"))
    return "\n".join([*lines, ""])


def _formats_text() -> str:
    lines = ["## Value formats", "", "| type | meaning | examples |", "| --- | --- | --- |"]
    for name, meaning, examples in FORMATS_IN_WORDS.values():
        lines.append(_row(name, meaning, ", ".join(f"`{example}`" for example in examples)))
    return "\n".join([*lines, ""])
