"""Transports that generations share."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.config.issuer import IssuerConfig
from gateway.config.secret import Url
from gateway.runtime.resources import Resources, base_url_of
from gateway.upstream.transport import UpstreamError
from tests.runtime.conftest import config_of
from tests.support.issuer import AUDIENCE, TokenIssuer


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


async def test_keys_of_an_issuer_are_fetched_directly_or_through_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources(lambda line: None, None, 1)
    async with TokenIssuer() as direct, TokenIssuer() as proxy:
        direct.add_key("direct")
        proxy.add_key("proxied")
        own = IssuerConfig("staff", direct.url, (AUDIENCE,))
        url = f"{direct.url}/keys"
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert b'"direct"' in await resources.fetch(own, url, 10_000)
        for setting in (proxy.url, "env"):
            assert b'"proxied"' in await resources.fetch(replace(own, proxy=Url(setting)), url, 10_000)
        assert (direct.requests, proxy.requests) == (["/keys"], [url, url])
        await proxy.close()
        with pytest.raises(UpstreamError):
            await resources.fetch(replace(own, proxy=Url(proxy.url)), url, 10_000)
    await resources.stop()


def test_base_url_has_no_trailing_slash_and_defaults_to_that_of_the_type() -> None:
    text = (
        'providers: {a: {type: vllm, base_url: "http://h/v1/"}, groq: {api_key: "${K:-abcdefgh}"}}\nmodels: {m: a/x}\n'
    )
    providers = config_of(text).providers
    assert base_url_of(providers["a"]) == "http://h/v1"
    assert base_url_of(providers["groq"]).startswith("https://")
