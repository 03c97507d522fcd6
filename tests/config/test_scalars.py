"""Scalars: values by type, bounds, and the description of a type in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta
from msgspec import inspect as mi

from gateway.config.field_types import KEY_HASH_EXAMPLE, Duration, KeyHash, Secrets
from gateway.config.formats import read_key_hash
from gateway.config.scalars import check_header, describe_type, read_scalar
from gateway.config.yamlfile import Place, Scalar
from tests.support.each import each

SMALL = Annotated[int, Meta(ge=1, le=9)]


def scalar(text: str, *, quoted: bool = False) -> Scalar:
    return Scalar(Place(1, 1), text, plain=not quoted, null=False)


def unwrapped(kind: Any) -> mi.Type:
    info = mi.type_info(kind)
    return info.type if isinstance(info, mi.Metadata) else info


@each(
    ("kind", "text", "value"),
    [(int, "7", 7), (float, "1.5", 1.5), (float, "2", 2.0), (bool, "TRUE", True), (str, "no", "no"), (Literal["a", 3], "3", 3)],
)
def test_values_are_read_by_type(kind: Any, text: str, value: object) -> None:
    assert read_scalar(text, scalar(text), unwrapped(kind)) == value


@each(
    ("kind", "node", "message"),
    [
        (int, scalar("1.5"), "expected an integer; got '1.5'"),
        (int, scalar("1", quoted=True), "expected an integer, without quotes; got '1'"),
        (float, scalar("inf"), "expected a number; got 'inf'"),
        (bool, scalar("yes"), "expected true or false; got 'yes'"),
        (SMALL, scalar("10"), "expected an integer, at least 1 and at most 9; got '10'"),
        (Literal["fast", "slow"], scalar("fest"), "expected one of fast, slow; got 'fest', did you mean 'fast'?"),
    ],
)
def test_other_text_is_refused_with_the_expected_form(kind: Any, node: Scalar, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        read_scalar(node.text, node, unwrapped(kind))
    assert str(caught.value) == message


@each(
    ("kind", "words"),
    [
        (int, "an integer"),
        (SMALL | None, "an integer"),
        (tuple[str, ...], "a list"),
        (dict[str, int], "a mapping"),
        (Duration, "a value such as 60s"),
        (Secrets, '"${NAME}" or file:PATH'),
        (int | str, "an integer or text"),
    ],
)
def test_a_type_is_described_in_words(kind: Any, words: str) -> None:
    assert describe_type(mi.type_info(kind)) == words


@each("text", ["a\nb", " a", "a ", "é"])
def test_text_that_no_header_can_contain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        check_header(text)
    assert check_header("a b") == "a b"


def test_the_example_of_a_key_hash_is_acceptable() -> None:
    assert read_key_hash(KEY_HASH_EXAMPLE) == KEY_HASH_EXAMPLE
    assert describe_type(mi.type_info(KeyHash)).startswith("a value such as sha256:")
