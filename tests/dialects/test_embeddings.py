"""Checks of embeddings requests. tests/flows/test_embeddings_flow.py has the invalid inputs, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.embeddings import check_embeddings
from gateway.errors import BadRequest
from providers.base import Body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


def check(**fields: Any) -> None:
    """Check a request."""
    check_embeddings(Body(json.dumps({"model": "m", **fields}).encode()))


@pytest.mark.parametrize("value", ["a", ["a", "b"], [1, 2], [[1], [2, 3]], [0]])
def test_each_form_of_input_is_accepted(value: Any) -> None:
    check(input=value, encoding_format="base64", dimensions=3, user="u", colour=None, stream=False)


@given(JSON)
def test_any_input_is_accepted_or_refused_by_name(value: Any) -> None:
    refused = None
    try:
        check(input=value)
    except BadRequest as error:
        refused = error
    if refused is None:
        assert type(value) is str or all(type(each) is type(value[0]) for each in value)
    else:
        assert str(refused.param).startswith("input")
