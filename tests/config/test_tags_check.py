"""Tags in a configuration: valid names, and the maximum number of tags."""

from __future__ import annotations

import pytest

from gateway.config import load
from gateway.config.tags_check import MAX_TAGS

BASE = "providers: {local: {}}\nmodels: {m: local/x}\n"


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ("[a, b, a]", "tags[2]: 'a' is repeated"),
        ("['a,b']", "tags[0]: expected a tag of at most 64 letters, digits"),
        ("[' ']", "tags[0]: expected a tag"),
        (f"[{', '.join(f't{number}' for number in range(MAX_TAGS + 1))}]", "tags: 201 tags; at most 200 are allowed"),
    ],
)
def test_a_mistake_in_tags_is_named(tags: str, problem: str) -> None:
    with pytest.raises(load.ConfigError) as error:
        load.parse(f"{BASE}tags: {tags}\n".encode(), "g.yaml", environ={})
    assert problem in str(error.value)


def test_valid_tags_are_read() -> None:
    config = load.parse(f"{BASE}tags: [search, team/web, a=b, v1.2:x]\n".encode(), "g.yaml", environ={})
    assert config.tags == ("search", "team/web", "a=b", "v1.2:x")
