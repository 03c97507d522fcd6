"""docs/configuration.md is the generated reference, and every key in it is described with an example that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
from msgspec import inspect as mi

from gateway.config.entry import ModelReader, ProviderReader, options_type
from gateway.config.files import Files
from gateway.config.formats import FORMATS
from gateway.config.model import ModelConfig
from gateway.config.problem import Problems
from gateway.config.provider import ProviderConfig
from gateway.config.read import Reader
from gateway.config.reference import FORMATS_IN_WORDS, Key, keys_of_provider_types, reference, sections, yaml_flow
from gateway.config.route import RouteReader
from gateway.config.schema import schema
from gateway.config.struct_types import keys_of
from gateway.config.yamlfile import Mapping, parse
from tests.support.each import each

ROOT = Path(__file__).parents[2]
PRIVATE_ENGLISH = re.compile(
    r"\b(who|whom|whose|whoever|nobody|somebody|anew|gone on|left alone|left out|to be had|goodbye|is no|may be had)\b"
)


class AnyEnvironment(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: Any = None) -> Any:
        return f"value-of-{key}"


class EveryPath:
    """Contains every path, as if each file had been read before, so that no file needs to exist."""

    def __contains__(self, path: object) -> bool:
        return True


def all_keys() -> Iterator[tuple[str, Key]]:
    """Yield each key with the path of its section."""
    for section in sections().values():
        yield from ((f"{section.paths[0]}.{key.name}", key) for key in section.keys)
    yield from ((f"type {types}: {key.name}", key) for types, key in keys_of_provider_types())


KEYS = list(all_keys())


def test_the_committed_reference_is_the_generated_one() -> None:
    committed = (ROOT / "docs" / "configuration.md").read_text()
    assert committed == reference(), "run: lockgate schema --markdown > docs/configuration.md"


def test_the_reference_has_a_row_for_every_property_of_the_schema() -> None:
    names = {key.name for _, key in KEYS}
    assert set(properties(schema())) <= names
    assert len(KEYS) > 110


def properties(node: Any) -> Iterator[str]:
    """Yield the names of all properties in a schema."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for child in node.values():
            yield from properties(child)
    elif isinstance(node, list):
        for child in node:
            yield from properties(child)


@each(("path", "key"), KEYS, ids=[path for path, _ in KEYS])
def test_every_key_has_a_plain_description_and_an_example(path: str, key: Key) -> None:
    assert re.fullmatch(r"[A-Z`].{8,}[.]", key.description), f"{path}: a description is whole sentences: {key.description!r}"
    assert not PRIVATE_ENGLISH.search(key.description.lower())
    assert key.example
    assert key.default


@each("struct", list(sections()), ids=lambda struct: struct.__name__)
def test_the_reader_accepts_every_example(struct: type[msgspec.Struct]) -> None:
    for field in keys_of(struct_type(struct)).values():
        check_example(field)


def test_the_reader_accepts_the_examples_of_every_provider_type() -> None:
    for name in {name for types, _ in keys_of_provider_types() for name in types.split(", ")}:
        options = options_type(name)
        assert options is not None
        for field in keys_of(options).values():
            check_example(field)


def struct_type(struct: type[msgspec.Struct]) -> mi.StructType:
    kind = mi.type_info(struct)
    assert isinstance(kind, mi.StructType)
    return kind


def check_example(field: mi.Field) -> None:
    """Read a field's example as the reader does in a file. Fail if the reader reports a problem."""
    problems = Problems("example.yaml")
    reader = Reader(problems, AnyEnvironment(), Path("/etc/lockgate"), Files(known=EveryPath()))  # type: ignore[arg-type]
    routes = RouteReader(problems, reader.text)
    reader.special = {ProviderConfig: ProviderReader(reader).read, ModelConfig: ModelReader(reader, routes).read}
    reader.read_ref = partial(routes.read_mirror, model="m")
    name = field.encode_name
    root = parse(f"{name}: {yaml_flow(example_of(field.type))}".encode())
    assert isinstance(root, Mapping)
    node = root.entries[name].value
    if name == "targets":
        assert routes.read(node, name, "m") is not None
    else:
        reader.read(node, field.type, name)
    problems.raise_if_any()


def example_of(kind: mi.Type) -> Any:
    """Return the first example in a type's metadata."""
    while isinstance(kind, mi.Metadata):
        words = kind.extra_json_schema or {}
        if "examples" in words:
            return words["examples"][0]
        kind = kind.type
    raise AssertionError("no example")


def test_the_examples_in_the_schema_fit_the_schema() -> None:
    root = schema()
    checked = 0
    for node in nodes_with_examples(root):
        validator = jsonschema.Draft202012Validator({**node, "$defs": root["$defs"]})
        for example in node["examples"]:
            assert [error.message for error in validator.iter_errors(example)] == [], node
            checked += 1
    assert checked > 200


def nodes_with_examples(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a schema that has examples."""
    if isinstance(node, dict):
        if isinstance(node.get("examples"), list):
            yield node
        for child in node.values():
            yield from nodes_with_examples(child)
    elif isinstance(node, list):
        for child in node:
            yield from nodes_with_examples(child)


def test_every_format_is_explained_and_its_examples_can_be_read() -> None:
    assert set(FORMATS) <= set(FORMATS_IN_WORDS)
    for form, (_, _, examples) in FORMATS_IN_WORDS.items():
        for example in examples if form in FORMATS else ():
            FORMATS[form].read(example)


@each(
    ("value", "text"),
    [
        ({"a/b": 1, "c": 0.5}, "{ a/b: 1, c: 0.5 }"),
        (["x", "y z"], "[x, y z]"),
        ("${NAME}", '"${NAME}"'),
        ("a: b", '"a: b"'),
        ("https://h:1/v1", "https://h:1/v1"),
        (True, "true"),
        (2.0, "2"),
    ],
)
def test_values_are_written_as_yaml_in_one_line(value: Any, text: str) -> None:
    assert yaml_flow(value) == text


def test_links_lead_to_headings_of_the_page() -> None:
    text = reference()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    assert len(anchors) == len(headings)
