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


def test_an_alias_is_the_value_of_its_anchor() -> None:
    tree = mapping("a: &a { b: &b [1] }\nc: *b\nd: *a\n&k e: 2\n*k : 3\n")
    first = tree.entries["a"].value
    assert isinstance(first, Mapping)
    assert tree.entries["c"].value == first.entries["b"].value
    assert tree.entries["d"].value == first
    assert [key for key, *_ in tree.repeated] == ["e"]


DEEP = "[" * 30 + "1" + "]" * 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: *b\nc: !x 1\n", "the tag '!x' is not supported: remove it"),
        ("? [a]\n: 1\nb: *c\n", "not valid YAML: found undefined alias"),
        ("a: &x 1\nb: &x 2\n", "not valid YAML: found duplicate anchor; first occurrence second occurrence"),
        ("? [a]\n: 1\n", "a key must be text, not a list or a mapping"),
        ("a: &a [*a]\n", "an alias contains itself, or is nested too deeply"),
        (f"a: &a {DEEP}\nb: [[*a]]\n", "an alias contains itself, or is nested too deeply"),
        ("<<: [1]\n", "'<<' must be followed by the alias of a mapping"),
        (f"a: &a {{ {', '.join(f'k{number}: 1' for number in range(100))} }}\n<<: [{', '.join(['*a'] * 600)}]\n",
         "aliases expand to more than 50000 values"),
        (f"a: &a [{', '.join('1' * 300)}]\nb: [{', '.join(['*a'] * 300)}]\n", "aliases expand to more than 50000 values"),
    ],
)  # fmt: skip
def test_errors_of_the_text_come_before_those_of_anchors_and_of_the_tree(text: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text.encode())
    assert caught.value.message == message


@pytest.mark.parametrize(("text", "place"), [("a:\n\tb: x", Place(2, 1)), ("a: 1\n---\nb: 2", Place(2, 1)), ("a: !x 1", Place(1, 4))])
def test_errors_have_a_place(text: str, place: Place) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text.encode())
    assert caught.value.place == place
