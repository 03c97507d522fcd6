"""The YAML tree: places, null and quoted values, merges and duplicate keys."""

from __future__ import annotations

import pytest

from gateway.config.yamlfile import Mapping, Place, Scalar, Sequence, YamlError, parse


def mapping(text: str) -> Mapping:
    """Return the tree of a YAML text that is a mapping."""
    tree = parse(text.encode())
    assert isinstance(tree, Mapping)
    return tree


def test_every_value_has_its_place_and_text() -> None:
    tree = mapping("a: 1e3\nb:\n  - 'no'\n  - no\nc:\n")
    assert tree.entries["a"].value == Scalar(Place(1, 4), "1e3", plain=True, null=False)
    assert tree.entries["b"].place == Place(2, 1)
    items = tree.entries["b"].value
    assert isinstance(items, Sequence)
    assert [(item.text, item.plain) for item in items.items if isinstance(item, Scalar)] == [("no", False), ("no", True)]
    assert tree.entries["c"].value == Scalar(Place(5, 3), "", plain=True, null=True)


def test_a_merge_adds_missing_keys_and_the_first_mapping_wins() -> None:
    tree = mapping("x: &x { a: 1, b: 2 }\ny: &y { b: 3, c: 4 }\nz: { <<: [*x, *y], a: 0 }\n")
    merged = tree.entries["z"].value
    assert isinstance(merged, Mapping)
    values = {key: entry.value.text for key, entry in merged.entries.items() if isinstance(entry.value, Scalar)}
    assert values == {"a": "0", "b": "2", "c": "4"}


def test_duplicate_keys_are_kept_apart() -> None:
    tree = mapping("a: 1\nb: 2\na: 3\n")
    assert tree.repeated == (("a", Place(3, 1), 1),)
    value = tree.entries["a"].value
    assert isinstance(value, Scalar)
    assert value.text == "1"


@pytest.mark.parametrize(("text", "place"), [("a:\n\tb: x", Place(2, 1)), ("a: 1\n---\nb: 2", Place(2, 1)), ("a: !x 1", Place(1, 4))])
def test_errors_have_a_place(text: str, place: Place) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text.encode())
    assert caught.value.place == place
