"""Who may call: a token becomes a key, and nothing of it is ever said again."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Forbidden, GatewayError, Unauthorized
from gateway.keys.authenticate import Keys, VirtualKey, bearer_token, may_use
from tests.running import Figure


def keys(**by_token: VirtualKey) -> Keys:
    """Keys known by these tokens."""
    return Keys({hashlib.sha256(token.encode()).digest(): key for token, key in by_token.items()}, open_to_all=False)


def sent(value: str) -> list[tuple[bytes, bytes]]:
    """The headers of a caller that sends this as its authorization."""
    return [(b"host", b"x"), (b"authorization", value.encode())]


KNOWN = keys(good=VirtualKey("team"), off=VirtualKey("old", disabled=True), late=VirtualKey("trial", expires=time.time() - 1))


@pytest.mark.parametrize("value", ["Bearer good", "bearer good", "BEARER   good", "Bearer good "])
def test_a_known_token_is_its_key(value: str) -> None:
    found = KNOWN.authenticate(sent(value))
    assert found is not None
    assert found.name == "team"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "good", "Basic good", "Bearergood"])
def test_no_token_is_told_how_to_send_one(value: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        KNOWN.authenticate(sent(value))
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert "Authorization: Bearer" in refused.value.message
    assert (b"www-authenticate", b"Bearer") in refused.value.headers


def test_a_request_without_the_header_has_no_token() -> None:
    with pytest.raises(Unauthorized):
        KNOWN.authenticate([])


@pytest.mark.parametrize(("token", "code"), [("off", "key_disabled"), ("late", "key_expired")])
def test_a_known_key_without_rights_is_forbidden(token: str, code: str) -> None:
    with pytest.raises(Forbidden) as refused:
        KNOWN.authenticate(sent(f"Bearer {token}"))
    assert (refused.value.status, refused.value.code) == (403, code)


def test_a_key_is_good_until_it_expires() -> None:
    assert keys(soon=VirtualKey("k", expires=time.time() + 3600)).authenticate(sent("Bearer soon")) is not None


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8))
def test_an_unknown_key_is_never_echoed(token: str) -> None:
    with pytest.raises(GatewayError) as refused:
        KNOWN.authenticate(sent(f"Bearer {token}"))
    assert refused.value.status == 401
    assert token.encode() not in refused.value.as_body().replace(b"The API key that was sent is not known to this gateway.", b"")


def test_open_gateways_ask_nobody() -> None:
    assert Keys({}, open_to_all=True).authenticate([]) is None


@pytest.mark.parametrize("query", [b"key=lg-1", b"a=1&api_key=lg-1", b"api-key=lg-1", b"access_token=lg-1", b"Authorization=lg-1"])
def test_c26_a_key_in_the_url_is_told_where_it_belongs(query: bytes) -> None:
    with pytest.raises(Unauthorized) as refused:
        KNOWN.authenticate([], query)
    assert "in the URL is not taken" in refused.value.message
    assert (b"www-authenticate", b"Bearer") in refused.value.headers
    assert "lg-1" not in refused.value.message
    found = KNOWN.authenticate(sent("Bearer good"), query)
    assert found is not None


def test_keys_made_at_run_time_join_the_configurations_and_never_replace_them() -> None:
    known = keys(good=VirtualKey("team"))
    made, other = hashlib.sha256(b"made").digest(), hashlib.sha256(b"good").digest()
    known.set_runtime_keys({made: VirtualKey("made"), other: VirtualKey("intruder")})
    assert [one.name for token in ("good", "made") if (one := known.authenticate(sent(f"Bearer {token}")))] == ["team", "made"]
    known.set_runtime_keys({})
    with pytest.raises(Unauthorized):
        known.authenticate(sent("Bearer made"))


def test_the_first_authorization_header_counts() -> None:
    assert bearer_token([(b"authorization", b"Bearer one"), (b"authorization", b"Bearer two")]) == b"one"


def test_models_are_allowed_by_the_name_the_caller_used() -> None:
    limited = VirtualKey("k", models=frozenset({"smart"}))
    assert may_use(limited, "smart")
    assert not may_use(limited, "fast")
    assert may_use(VirtualKey("k"), "fast")
    assert may_use(None, "fast")
    assert not may_use(VirtualKey("k", models=frozenset()), "fast")


def test_a_pattern_among_a_keys_models_is_every_name_that_it_fits() -> None:
    limited = VirtualKey("k", models=frozenset({"claude-*", "smart"}))
    assert may_use(limited, "claude-3-opus")
    assert not may_use(limited, "gpt-claude-3")


@pytest.mark.prove
def test_c27_how_long_a_refusal_takes_tells_nothing_about_keys(figure: Figure) -> None:
    """Unknown keys, keys that begin as a known one does, and keys that were revoked, in turn; means without the slowest tenth."""
    secret = "lg-" + "a" * 43
    known = keys(**{secret: VirtualKey("team"), "lg-" + "b" * 43: VirtualKey("other")})
    known.set_runtime_keys({hashlib.sha256(b"lg-revoked").digest(): VirtualKey("revoked")})
    known.set_runtime_keys({})
    cases = {"unknown": "lg-" + "x" * 43, "one letter off": secret[:-1] + "b", "revoked": "lg-revoked" + "r" * 36}
    took: dict[str, list[int]] = {name: [] for name in cases}
    sends = {name: sent(f"Bearer {token}") for name, token in cases.items()}
    for _ in range(100_000):
        for name, headers in sends.items():
            began = time.perf_counter_ns()
            with suppress(Unauthorized):
                known.authenticate(headers)
            took[name].append(time.perf_counter_ns() - began)
    means = {name: sum(sorted(times)[: len(times) * 9 // 10]) / (len(times) * 0.9) for name, times in took.items()}
    for name, mean in means.items():
        figure(name, mean, "ns")
    assert max(means.values()) - min(means.values()) < 1000
