"""The depth of JSON, and its objects and lists, are counted in the same way on every Python version."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.http.json_depth import CANCEL_ROUNDS, MAX_DEPTH, has_many_containers, is_deep


def depth_of(value: Any) -> int:
    """Return the depth by walking the value."""
    if isinstance(value, dict | list):
        return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@pytest.mark.parametrize(("opening", "inner", "closing"), [("[", "", "]"), ('{"a":', "1", "}"), ('[1,{"]}":', '"[[["', '},[2]]')])
def test_the_limit_itself_passes_and_one_level_more_does_not(opening: str, inner: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{")
    for depth in (1, MAX_DEPTH // levels, MAX_DEPTH // levels + 1, 10_000, 300_000):
        text = opening * depth + inner + closing * depth
        assert is_deep(text.encode()) is (depth * levels > MAX_DEPTH), (depth, opening)


def test_brackets_in_strings_and_side_by_side_do_not_count() -> None:
    assert not is_deep(json.dumps({"text": "[" * 5000 + '\\"{' * 5000}).encode())
    assert not is_deep(json.dumps([[[]] for _ in range(5000)]).encode())


def test_the_depth_agrees_with_walking_the_value() -> None:
    draw = random.Random(3)

    def value(depth: int) -> Any:
        """Return one deep branch among flat ones."""
        if depth == 0:
            return draw.choice([1, "[", '"', "\\", "}{", '\\"]', None])
        others: list[Any] = [draw.choice([[], {}, [[1]], {"]": "["}, 'x"\\']) for _ in range(draw.randint(0, 3))]
        if draw.random() < 0.5:
            return [*others, value(depth - 1), *others]
        return {f'{number}]"': one for number, one in enumerate([value(depth - 1), *others])}

    for _ in range(300):
        nested = [value(draw.randint(CANCEL_ROUNDS, 40)) for _ in range(3)]
        depth = depth_of(nested)
        for most in (depth - 1, depth, depth + 1):
            assert is_deep(json.dumps(nested).encode(), most) is (depth > most)


def containers_in(value: Any) -> int:
    """Return the number of objects and lists by walking the value."""
    if isinstance(value, dict | list):
        return 1 + sum(map(containers_in, value.values() if isinstance(value, dict) else value))
    return 0


def test_the_number_of_objects_and_lists_agrees_with_walking_the_value() -> None:
    draw = random.Random(5)

    def value(depth: int) -> Any:
        """Return a value with brackets and escapes in its strings."""
        if depth == 0 or draw.random() < 0.2:
            return draw.choice([1, "[", '"', "\\", "}{", '\\"]', 'a"{', None])
        inner = [value(depth - 1) for _ in range(draw.randint(0, 4))]
        return inner if draw.random() < 0.5 else {f'{at}"[\\': each for at, each in enumerate(inner)}

    for _ in range(300):
        drawn = [value(5)]
        source = json.dumps(drawn).encode()
        count = containers_in(drawn)
        for most in (count - 1, count):
            assert has_many_containers(source + b" " * 2 * count, most) is (count > most), source
    assert not has_many_containers(json.dumps(["[{" * 200_000]).encode())
