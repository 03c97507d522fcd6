"""`bring_credentials` of a key: providers in the file that accept a credential."""

from __future__ import annotations

import pytest

from gateway.config import load
from gateway.config.brought_check import WITHOUT_CREDENTIAL

BASE = (
    "providers: { local: {}, openai: { api_key: '${K}' } }\nmodels: { m: openai/gpt-4o, l: local/x }\n"
    f"keys:\n  a: {{ hash: 'sha256:{'0' * 64}', "
)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("bring_credentials: [opena] }", "no provider 'opena' in this file, did you mean 'openai'?"),
        ("bring_credentials: [local] }", "a provider of type local accepts no credential"),
        ("budget_brought_credentials: false }", "has no effect without bring_credentials"),
    ],
)
def test_a_mistake_is_named(fields: str, problem: str) -> None:
    with pytest.raises(load.ConfigError) as error:
        load.parse((BASE + fields).encode(), "g.yaml", environ={"K": "x"})
    assert problem in str(error.value).replace('"', "'")


def test_a_provider_with_a_credential_is_accepted() -> None:
    fields = "bring_credentials: [openai], budget_brought_credentials: false }"
    key = load.parse((BASE + fields).encode(), "g.yaml", environ={"K": "x"}).keys["a"]
    assert (key.bring_credentials, key.budget_brought_credentials) == (("openai",), False)
    assert frozenset({"local"}) == WITHOUT_CREDENTIAL
