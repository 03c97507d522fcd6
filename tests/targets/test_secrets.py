"""The secrets of a target are its credential and the values of its headers that may be secret."""

from __future__ import annotations

import providers
from gateway.targets.secrets import secrets_of
from providers.base import Target

KIND = providers.get("openai-compatible")


def test_secrets_are_the_credential_and_long_header_values_as_they_are_and_encoded() -> None:
    headers = (("x-team", "short"), ("x-api-secret", "a secret/value"))
    target = Target("p/m", "p", KIND, "m", "http://x/v1", "sk-key+1", headers=headers)
    assert secrets_of(target) == ("sk-key+1", "a secret/value", "sk-key%2B1", "a%20secret%2Fvalue")
    assert secrets_of(Target("p/m", "p", KIND, "m", "http://x/v1", "abc")) == ()
