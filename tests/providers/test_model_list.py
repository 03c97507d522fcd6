"""Lists of models in the formats of the vendors."""

from __future__ import annotations

import pytest

import providers
from providers.model_list import read_model_names
from tests.support.each import each

LISTS = {
    b'{"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b/c"}, {"id": "a"}]}': ["a", "b/c"],
    b'[{"id": "a", "pricing": {"input": 1}}, {"id": "b"}]': ["a", "b"],
    b'{"models": [{"name": "command-r", "endpoints": ["chat"]}], "next_page_token": ""}': ["command-r"],
    b'{"data": [{"id": "models/gemini-2.5-pro"}]}': ["gemini-2.5-pro"],
    b'{"data": [{"id": "a*"}, {"id": ""}, {"id": " b"}, {"id": "c\\r\\nd"}, {"id": "\\u00e9"}, {}, {"id": "ok"}]}': ["ok"],
    b'{"data": []}': [],
}


@each("body", LISTS)
def test_the_names_of_a_list_are_read_once_and_without_unusable_ones(body: bytes) -> None:
    assert read_model_names(body) == LISTS[body]


@each("body", [b"", b"<html>", b"{}", b'{"data": 1}', b'{"data": [1]}', b'"a"', b'{"data": [{"id": "\xff"}]}'])
def test_another_response_is_not_a_list(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a list of models"):
        read_model_names(body)


def test_each_provider_has_the_path_of_its_list() -> None:
    paths = {name: providers.get(name).models_path("/base/v2") for name in providers.OURS}
    assert {name: path for name, path in paths.items() if path != "/base/v2/models"} == {
        "anthropic": "/base/v2/models?limit=1000",
        "azure": None,
        "cohere": "/base/v1/models?page_size=1000",
        "local": None,
    }
