"""The paths that a rejected file would change."""

from __future__ import annotations

from gateway.config.rejected import MAX_PATHS, changed_paths

SERVING = b"providers:\n  a: { base_url: x, api_key: secret-1 }\nmodels:\n  m: [a/x, a/y]\n  old: a/x\n"


def test_added_removed_and_changed_paths_are_named_without_values() -> None:
    rejected = b"providers:\n  a: { base_url: x, api_kye: secret-2 }\nmodels:\n  m: [a/x, a/z]\n  new: a/x\n"
    lines = changed_paths(SERVING, rejected)
    assert lines == [
        "- providers.a.api_key", "+ providers.a.api_kye (line 2)", "- models.old", "~ models.m (line 4)", "+ models.new (line 5)",
    ]  # fmt: skip
    assert not any("secret" in line for line in lines)


def test_place_and_style_do_not_matter() -> None:
    moved = b'# moved\nmodels: { old: "a/x", m: [a/x, a/y] }\nproviders: { a: { api_key: secret-1, base_url: x } }\n'
    assert changed_paths(SERVING, moved) == []


def test_kind_of_a_value_matters() -> None:
    pairs = ((b"1", b"[1]"), (b"[1]", b"[1, 2]"), (b"[{b: 1}]", b"[{c: 1}]"), (b"{b: 1}", b"b"), (b"", b'""'))
    for before, after in pairs:
        assert changed_paths(b"a: " + before, b"a: " + after) == ["~ a (line 1)"], (before, after)


def test_file_that_is_not_yaml_has_no_paths() -> None:
    assert changed_paths(SERVING, b"models: [") == []


def test_another_kind_of_file_is_changed_as_a_whole() -> None:
    assert changed_paths(SERVING, b"- 1") == ["~ the whole file (line 1)"]


def test_number_of_paths_is_limited() -> None:
    many = b"models:\n" + b"".join(b"  m%d: a/x\n" % number for number in range(MAX_PATHS + 10))
    assert len(changed_paths(b"models: {}\n", many)) == MAX_PATHS
