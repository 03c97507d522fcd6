"""The fields of the configuration's structs that are keys of the YAML."""

from __future__ import annotations

from gateway.config.provider import ProviderConfig
from gateway.config.struct_types import keys_of, struct_type


def test_keys_have_their_yaml_names_without_those_that_are_written_elsewhere() -> None:
    keys = keys_of(struct_type(ProviderConfig))
    assert keys["pass"].name == "pass_fields"
    assert not {"name", "options", "pass_fields"} & set(keys) - {"name"}


def test_the_description_of_a_struct_is_made_once() -> None:
    assert struct_type(ProviderConfig) is struct_type(ProviderConfig)
