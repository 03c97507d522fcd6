"""The credentials that a key lets its callers bring."""

from __future__ import annotations

import pytest

from gateway.config.secret import Secret
from gateway.errors import Forbidden
from gateway.keys.brought import brought_credentials
from gateway.keys.virtual_key import VirtualKey

SECRET = Secret("sk-1")


def test_a_credential_is_for_the_provider_as_the_file_writes_it() -> None:
    key = VirtualKey("a", bring_credentials=frozenset({"OpenAI", "gpu-box"}))
    assert brought_credentials(key, {"openai": SECRET}) == {"OpenAI": SECRET}
    assert brought_credentials(key, {}) == {}


@pytest.mark.parametrize("key", [None, VirtualKey("a"), VirtualKey("a", bring_credentials=frozenset({"two"}))])
def test_other_credentials_are_forbidden(key: VirtualKey | None) -> None:
    with pytest.raises(Forbidden) as error:
        brought_credentials(key, {"one": SECRET})
    assert (error.value.param, error.value.code) == ("x-gateway-credential-one", "credential_not_allowed")
    assert "sk-1" not in str(error.value)
