"""Authentication: a token becomes a key, and no message contains the token."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Forbidden, GatewayError, Unauthorized, Unavailable
from gateway.keys.authenticate import Keys, bearer_token
from gateway.keys.virtual_key import VirtualKey
from tests.keys.tokens import Accepting, staff
from tests.running import Figure
from tests.support.calls import calls_of
from tests.support.each import each
from tests.support.issuer import TokenIssuer


def keys(**by_token: VirtualKey) -> Keys:
    """Return keys by their tokens."""
    return Keys({hashlib.sha256(token.encode()).digest(): key for token, key in by_token.items()}, open_to_all=False)


def sent(value: str) -> list[tuple[bytes, bytes]]:
    """Return request headers with this Authorization header."""
    return [(b"host", b"x"), (b"authorization", value.encode())]


KNOWN = keys(good=VirtualKey("team"), off=VirtualKey("old", disabled=True), late=VirtualKey("trial", expires=time.time() - 1))


@each("value", ["Bearer good", "bearer good", "BEARER   good", "Bearer good "])
def test_a_known_token_returns_its_key(value: str) -> None:
    found = KNOWN.authenticate(sent(value))
    assert found is not None
    assert found.name == "team"


@each("value", ["", "Bearer", "Bearer ", "good", "Basic good", "Bearergood"])
def test_a_missing_token_is_401_and_the_message_says_how_to_send_one(value: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        KNOWN.authenticate(sent(value))
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert "Authorization: Bearer" in refused.value.message
    assert (b"www-authenticate", b"Bearer") in refused.value.headers


def test_a_request_without_the_header_is_unauthorized() -> None:
    with pytest.raises(Unauthorized):
        KNOWN.authenticate([])


@pytest.mark.parametrize(("token", "code"), [("off", "key_disabled"), ("late", "key_expired")])
def test_a_disabled_or_expired_key_is_forbidden(token: str, code: str) -> None:
    with pytest.raises(Forbidden) as refused:
        KNOWN.authenticate(sent(f"Bearer {token}"))
    assert (refused.value.status, refused.value.code) == (403, code)


@each(
    ("team", "message"),
    [
        ("", "The key 'old' is disabled. Ask the operator for access."),
        ("t", "The key 'old' or its team 't' is disabled, or the team does not exist. Ask the operator for access."),
    ],
)
def test_the_error_for_a_disabled_key_states_the_reason(team: str, message: str) -> None:
    with pytest.raises(Forbidden) as refused:
        keys(off=VirtualKey("old", disabled=True, team=team)).authenticate(sent("Bearer off"))
    assert refused.value.message == message


def test_a_key_is_accepted_until_the_moment_at_which_it_expires() -> None:
    now = 1000.0
    one = Keys({hashlib.sha256(b"soon").digest(): VirtualKey("k", expires=1000.5)}, open_to_all=False, clock=lambda: now)
    assert one.authenticate(sent("Bearer soon")) is not None
    now = 1000.499
    assert one.authenticate(sent("Bearer soon")) is not None
    now = 1000.5
    with pytest.raises(Forbidden):
        one.authenticate(sent("Bearer soon"))


def refusal(token: str) -> GatewayError:
    """Return the error for an unknown key."""
    with pytest.raises(GatewayError) as refused:
        KNOWN.authenticate(sent(f"Bearer {token}"))
    return refused.value


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8))
def test_an_unknown_key_is_never_echoed(token: str) -> None:
    error, other = refusal(token), refusal("another-unknown-key")
    assert error.status == 401
    assert (error.as_body(), error.headers) == (other.as_body(), other.headers)


def test_an_open_gateway_requires_no_key() -> None:
    assert Keys({}, open_to_all=True).authenticate([]) is None


@each("query", [b"key=lg-1", b"a=1&api_key=lg-1", b"api-key=lg-1", b"access_token=lg-1", b"Authorization=lg-1"])
def test_c26_a_key_in_the_url_is_rejected(query: bytes) -> None:
    with pytest.raises(Unauthorized) as refused:
        KNOWN.authenticate([], query)
    assert "API keys in the URL are rejected" in refused.value.message
    assert (b"www-authenticate", b"Bearer") in refused.value.headers
    assert "lg-1" not in refused.value.message
    found = KNOWN.authenticate(sent("Bearer good"), query)
    assert found is not None


def test_run_time_keys_never_replace_those_of_the_configuration() -> None:
    known = keys(good=VirtualKey("team"))
    made, other = hashlib.sha256(b"made").digest(), hashlib.sha256(b"good").digest()
    known.set_runtime_keys({made: VirtualKey("made"), other: VirtualKey("intruder")})
    assert [one.name for token in ("good", "made") if (one := known.authenticate(sent(f"Bearer {token}")))] == ["team", "made"]
    known.set_runtime_keys({})
    with pytest.raises(Unauthorized):
        known.authenticate(sent("Bearer made"))


def test_the_first_authorization_header_is_used() -> None:
    assert bearer_token([(b"authorization", b"Bearer one"), (b"authorization", b"Bearer two")]) == b"one"


def test_an_unknown_key_is_503_until_the_key_store_has_been_read() -> None:
    known = keys(good=VirtualKey("team"))
    known.set_runtime_keys({}, complete=False)
    with pytest.raises(Unavailable) as refused:
        known.authenticate(sent("Bearer other"))
    assert refused.value.code == "keys_unavailable"
    assert known.authenticate(sent("Bearer good")) is not None


@pytest.mark.prove
def test_c27_the_duration_of_a_rejection_reveals_nothing_about_keys(figure: Figure) -> None:
    """Compare unknown, almost known and revoked keys in turn. The slowest tenth of each is left out of the mean."""
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


def accepting(issuer: TokenIssuer) -> Keys:
    """Return keys that accept one key and the tokens of an issuer."""
    digest = hashlib.sha256(b"lg-app").digest()
    return Keys({digest: VirtualKey("app")}, open_to_all=False, tokens=Accepting(issuer).callers)


def test_issuers_cost_a_key_nothing() -> None:
    with_tokens, without = accepting(staff()), keys(**{"lg-app": VirtualKey("app")})
    headers = sent("Bearer lg-app")
    assert calls_of(lambda: with_tokens.authenticate(headers)) == calls_of(lambda: without.authenticate(headers))


def test_a_known_token_costs_little_more_than_a_key() -> None:
    issuer = staff()
    known, token = accepting(issuer), sent(f"Bearer {issuer.token()}")
    found = known.authenticate(token)
    assert found is not None
    assert found.name == "staff/alice"
    key = calls_of(lambda: known.authenticate(sent("Bearer lg-app")))
    assert calls_of(lambda: known.authenticate(token)) <= key + 8


def test_a_key_with_the_form_of_a_token_is_a_key() -> None:
    text = "eyJhbGciOiJub25lIn0.own.key"
    known = Keys({hashlib.sha256(text.encode()).digest(): VirtualKey("odd")}, open_to_all=False, tokens=Accepting(staff()).callers)
    found = known.authenticate(sent(f"Bearer {text}"))
    assert found is not None
    assert found.name == "odd"
    with pytest.raises(Unauthorized) as refused:
        known.authenticate(sent("Bearer lg-unknown"))
    assert refused.value.code == "invalid_api_key"


async def test_a_caller_is_identified_after_the_keys_of_its_issuer_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = staff()
    one = Accepting(issuer)
    known = Keys({}, open_to_all=False, tokens=one.callers)
    issuer.add_key("k2", "RS256")
    headers = sent(f"Bearer {issuer.token()}")
    with pytest.raises(Unauthorized) as refused:
        await known.identify(headers)
    assert refused.value.code == "invalid_token"

    async def read() -> bool:
        one.source._use(issuer.keys().encode(), time.time())
        return True

    monkeypatch.setattr(one.source, "refreshed", read)
    found = await known.identify(headers)
    assert found is not None
    assert found.name == "staff/alice"
    with pytest.raises(Unauthorized):
        await known.identify(sent(f"Bearer {issuer.token(headers={'kid': 'k3'})}"))
