"""The shape of YAML nodes, and the type of a union that fits it."""

from __future__ import annotations

from msgspec import inspect as mi

from gateway.config import yamlfile
from gateway.config.node_shape import has_shape
from tests.support.each import each

LIST, MAPPING, TEXT = mi.type_info(tuple[str, ...]), mi.type_info(dict[str, int]), mi.type_info(str)


@each(
    ("written", "fits"),
    [("[a]", [True, False, False]), ("{a: 1}", [False, True, False]), ("a", [False, False, False]), ("", [False, False, False])],
)
def test_lists_and_mappings_fit_types_of_their_shape(written: str, fits: list[bool]) -> None:
    node = yamlfile.parse(f"key: {written}".encode())
    assert isinstance(node, yamlfile.Mapping)
    value = node.entries["key"].value
    assert [has_shape(value, kind) for kind in (LIST, MAPPING, TEXT)] == fits
    assert [has_shape(value, mi.Metadata(kind, None, {})) for kind in (LIST, MAPPING, TEXT)] == fits
