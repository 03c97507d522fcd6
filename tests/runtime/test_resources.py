"""Transports that generations share."""

from __future__ import annotations

from gateway.runtime.resources import Resources, base_url_of
from tests.runtime.conftest import config_of


async def test_httpx_transport_is_shared_until_it_is_unused_and_the_native_one_stays() -> None:
    providers = config_of().providers
    resources = Resources(lambda line: None, None, 1)
    assert resources.transport_for(providers["up"]) is resources.native
    transport = resources.transport_for(providers["other"])
    assert resources.transport_for(providers["other"]) is transport
    await resources.close_unused(lambda resource: resource is transport)
    assert resources.transport_for(providers["other"]) is transport
    await resources.close_unused(lambda resource: False)
    assert resources.transport_for(providers["other"]) is not transport
    await resources.stop()


def test_base_url_has_no_trailing_slash_and_defaults_to_that_of_the_type() -> None:
    text = (
        'providers: {a: {type: vllm, base_url: "http://h/v1/"}, groq: {api_key: "${K:-abcdefgh}"}}\nmodels: {m: a/x}\n'
    )
    providers = config_of(text).providers
    assert base_url_of(providers["a"]) == "http://h/v1"
    assert base_url_of(providers["groq"]).startswith("https://")
