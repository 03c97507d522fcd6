"""Signatures and times of tokens: accepted ones, and the errors for the others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.issuer import ALGORITHMS
from gateway.errors import GatewayError, InvalidToken
from gateway.keys.token_callers import SigningKeyUnknownError
from gateway.keys.verify_token import MAX_TOKEN_BYTES, read_token
from tests.keys.tokens import URL, Accepting, staff
from tests.support.each import each
from tests.support.issuer import AUDIENCE, private_key, public_jwk

HOUR = 3600
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(AUDIENCE)
ANY_JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


def part(value: Any) -> str:
    """Return a part of a token: JSON in base64url."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def told(accepting: Accepting, token: str | bytes) -> tuple[str, str | None]:
    """Return the text and the code with which a token is rejected. The text contains no part of the token."""
    with pytest.raises(InvalidToken) as error:
        accepting(token)
    text = token if isinstance(token, str) else token.decode("latin-1")
    assert all(piece not in str(error.value) for piece in text.split(".") if len(piece) > 20)
    assert error.value.status == 401
    assert dict(error.value.headers) == {b"www-authenticate": b'Bearer error="invalid_token"'}
    return str(error.value), error.value.code


@each("algorithm", ALGORITHMS)
def test_each_algorithm_with_a_public_key_is_accepted(algorithm: str) -> None:
    issuer = staff(("k1", algorithm))
    assert Accepting(issuer)(issuer.token()).name == "staff/alice"
    others = tuple(name for name in ALGORITHMS if name != algorithm)
    text, code = told(Accepting(issuer, algorithms=others), issuer.token())
    assert (text.startswith("The token's algorithm is not accepted here."), code) == (True, "invalid_token")


@each(
    ("claims", "code", "words"),
    [
        ({"exp": int(time.time()) - HOUR}, "token_expired", "The token expired at 20"),
        ({"exp": int(time.time()) - 31}, "token_expired", "Request a new one"),
        ({"nbf": int(time.time()) + HOUR}, "invalid_token", "is not valid yet"),
        ({"iat": int(time.time()) + HOUR}, "invalid_token", "is not valid yet"),
        ({"aud": "billing"}, "invalid_token", "for another audience ('aud'). Request one for 'lockgate'"),
        ({"aud": ["billing", "mail"]}, "invalid_token", "for another audience"),
        ({"aud": None}, "invalid_token", "lacks the claim 'aud'"),
        ({"exp": None}, "invalid_token", "lacks the claim 'exp'"),
        ({"sub": None}, "invalid_token", "no text in its claim 'sub'"),
        ({"iss": "https://evil.example.com"}, "invalid_token", "issuer ('iss') is not accepted here"),
        ({"iss": URL + "/"}, "invalid_token", "issuer ('iss') is not accepted here"),
        ({"iss": None}, "invalid_token", "names no issuer"),
        ({"exp": "tomorrow"}, "invalid_token", "is not valid (DecodeError)"),
        ({"sub": 7}, "invalid_token", "is not valid (InvalidSubjectError)"),
    ],
)
def test_a_token_with_an_unacceptable_claim_is_rejected(claims: dict[str, Any], code: str, words: str) -> None:
    issuer = staff()
    if "sub" in claims and claims["sub"] is not None:  # PyJWT signs no such token
        header, payload = {"alg": "ES256", "kid": "k1"}, {"iss": URL, "aud": AUDIENCE, "exp": time.time() + 60, **claims}
        signer = jwt.get_algorithm_by_name("ES256")
        signed = f"{part(header)}.{part(payload)}"
        token = f"{signed}.{part(signer.sign(signed.encode(), private_key('ES256')))}"
    else:
        token = issuer.token(**claims)
    text, given = told(Accepting(issuer), token)
    assert given == code
    assert words in text


def test_clocks_may_differ_by_the_leeway() -> None:
    issuer, now = staff(), int(time.time())
    late, early = issuer.token(exp=now - 200), issuer.token(nbf=now + 200, iat=now + 200)
    for token in (late, early):
        assert Accepting(issuer, leeway=300.0)(token).name == "staff/alice"
        assert told(Accepting(issuer, leeway=0.0), token)[1] in ("token_expired", "invalid_token")


def test_a_token_for_several_audiences_is_accepted() -> None:
    issuer = staff()
    assert Accepting(issuer)(issuer.token(aud=["billing", AUDIENCE])).name == "staff/alice"


def test_an_expiry_far_in_the_future_is_accepted() -> None:
    issuer = staff()
    assert Accepting(issuer)(issuer.token(exp=10**30)).expires == 253402300799


def forged(header: dict[str, Any], signature: bytes = b"", **claims: Any) -> str:
    """Return a token with any header and signature."""
    payload = {"iss": URL, "aud": AUDIENCE, "sub": "mallory", "exp": int(time.time()) + HOUR, **claims}
    return f"{part(header)}.{part(payload)}.{part(signature)}"


@each("name", ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "ES256K", "RS1", "dir"])
def test_no_other_algorithm_is_accepted(name: str) -> None:
    for kid in ({}, {"kid": "k1"}):
        assert told(Accepting(staff()), forged({"alg": name, **kid}, b"x"))[0].startswith("The token's algorithm is not accepted")


@each("encoding", [Encoding.PEM, Encoding.DER])
def test_a_public_key_is_not_a_secret_for_hmac(encoding: Encoding) -> None:
    issuer = staff(("k1", "RS256"))
    public = private_key("RS256").public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    for secret in (public, public.strip(), json.dumps(public_jwk(private_key("RS256"), "k1")).encode()):
        for name in ("HS256", "RS256"):
            signed = forged({"alg": name, "kid": "k1"}).rpartition(".")[0]
            token = f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
            assert told(Accepting(issuer), token)[1] == "invalid_token"


def test_a_key_verifies_only_its_own_algorithms() -> None:
    issuer = staff(("rsa", "RS256"), ("p256", "ES256"), ("p384", "ES384"), ("ed", "EdDSA"))
    accepting = Accepting(issuer)
    for id, own in (("rsa", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")), ("p256", ("ES256",)), ("ed", ("EdDSA",))):
        for name in ALGORITHMS:
            text, _ = told(accepting, forged({"alg": name, "kid": id}, b"x" * 64))
            expected = "signature is not valid" if name in own else "does not support the token's algorithm"
            assert expected in text, (id, name)


def test_a_key_that_names_its_algorithm_verifies_no_other() -> None:
    issuer = staff(("k1", "RS256"))
    issuer.published = json.dumps({"keys": [public_jwk(private_key("RS256"), "k1", alg="RS256", use="sig")]})
    accepting = Accepting(issuer)
    assert accepting(issuer.token()).name == "staff/alice"
    token = jwt.encode({"iss": URL, "aud": AUDIENCE, "sub": "a", "exp": time.time() + 60}, private_key("RS256"), "PS256", {"kid": "k1"})
    assert "does not support the token's algorithm" in told(accepting, token)[0]


@each("header", ["jku", "x5u", "jwk", "x5c", "x5t"])
def test_headers_that_name_or_contain_a_key_are_ignored(header: str) -> None:
    issuer, own = staff(), private_key("ES256", 2)
    value: Any = {"jwk": public_jwk(own), "x5c": ["MIIB"]}.get(header, "https://evil.example.com/keys")
    claims = {"iss": URL, "aud": AUDIENCE, "sub": "mallory", "exp": int(time.time()) + HOUR}
    token = jwt.encode(claims, own, "ES256", {"kid": "k1", header: value})
    assert "signature is not valid" in told(Accepting(issuer), token)[0]
    assert Accepting(issuer)(issuer.token(headers={header: value})).name == "staff/alice"


@each("kid", ["../../../../etc/passwd", "/dev/null", "k1\0", "K1", "' OR 1=1 --", "x" * 4000, ""])
def test_a_key_id_is_only_compared(kid: str) -> None:
    with pytest.raises(SigningKeyUnknownError) as error:
        Accepting(staff())(forged({"alg": "ES256", "kid": kid}, b"x" * 64))
    assert error.value.refusal.status == 401
    assert kid not in str(error.value.refusal) or not kid


@each("kid", [7, ["k1"], {"k1": 1}, True])
def test_a_key_id_that_is_not_text_is_rejected(kid: Any) -> None:
    assert "'kid', if present, must be a string" in told(Accepting(staff()), forged({"alg": "ES256", "kid": kid}, b"x" * 64))[0]


def test_a_token_without_a_key_id_is_verified_if_one_key_fits() -> None:
    one, two = staff(("a", "ES256"), ("b", "RS256")), staff(("a", "ES256"), ("b", "ES256"))
    claims = {"iss": URL, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 60}
    token = jwt.encode(claims, private_key("ES256"), "ES256")
    assert Accepting(one)(token).name == "staff/alice"
    assert "does not name the key that signed it" in told(Accepting(two), token)[0]


@each("extension", [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": False}])
def test_extensions_of_signatures_are_rejected(extension: dict[str, Any]) -> None:
    assert "that is not supported" in told(Accepting(staff()), forged({"alg": "ES256", "kid": "k1", **extension}, b"x" * 64))[0]


def signed(payload: bytes, header: bytes = b'{"alg":"ES256","kid":"k1"}') -> str:
    """Return a token with a valid signature of any bytes."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(jwt.get_algorithm_by_name('ES256').sign(text.encode(), private_key('ES256')))}"


VALID = f'"iss":"{URL}","aud":"lockgate","exp":9999999999'


@each(
    "payload",
    [
        f'{{{VALID},"sub":"alice","sub":"admin"}}', f'{{{VALID},"exp":1,"sub":"alice"}}', f'{{{VALID},"sub":"a","r":{{"x":1,"x":2}}}}',
        f'{{{VALID},"sub":"a","n":NaN}}', f'{{{VALID},"sub":"a","n":-Infinity}}', f'{{{VALID},"sub":"a","n":{"9" * 5000}}}',
        "[" * 3000, "", "[]", "null", '"text"', f'{{{VALID},"sub":"a"', "\ufeff{}",
    ],
)  # fmt: skip
def test_a_payload_that_could_be_read_in_two_ways_is_rejected(payload: str) -> None:
    assert "payload is not a JSON object" in told(Accepting(staff()), signed(payload.encode()))[0]


@each("header", [b'{"alg":"ES256","alg":"none","kid":"k1"}', b"[]", b"{", b"\xff\xfe{}", b'{"kid":"k1"}', b'{"alg":["ES256"],"kid":"k1"}'])
def test_a_header_that_could_be_read_in_two_ways_is_rejected(header: bytes) -> None:
    assert told(Accepting(staff()), signed(f'{{{VALID},"sub":"alice"}}'.encode(), header))[0].startswith("The token's header")


def test_the_same_bytes_with_one_name_each_are_accepted() -> None:
    assert Accepting(staff())(signed(f'{{{VALID},"sub":"alice"}}'.encode())).name == "staff/alice"


def test_a_changed_token_is_rejected() -> None:
    issuer = staff()
    accepting, token = Accepting(issuer), issuer.token()
    head, payload, signature = token.split(".")
    raised = part({**json.loads(base64.urlsafe_b64decode(payload + "==")), "sub": "admin"})
    for changed in (f"{head}.{raised}.{signature}", f"{head}.{payload}.{part(b'x' * 64)}", f"{head}.{payload}."):
        assert told(accepting, changed)[1] == "invalid_token"
    odd = (f"{head}.{payload}.{signature[:-2]}!!", f"{head}.{payload}!.{signature}", f"{head}.{payload}.é".encode())
    unreadable = (*odd, "ey.ey.ey", "..")
    for broken in unreadable:
        assert told(accepting, broken)[1] == "invalid_token"


def test_a_large_token_is_rejected_before_it_is_read() -> None:
    issuer = staff()
    large = issuer.token(groups=["x" * 40] * 300)
    assert len(large) > MAX_TOKEN_BYTES
    assert told(Accepting(issuer), large)[0].startswith(f"The token has {len(large)} bytes; at most {MAX_TOKEN_BYTES} are accepted.")
    with pytest.raises(GatewayError, match="bytes"):
        read_token(b"ey" + b"x" * MAX_TOKEN_BYTES + b"..")
    allowed = issuer.token(groups=["x" * 40] * 100)
    assert Accepting(issuer)(allowed).name == "staff/alice"


ISSUER = staff(("k1", "ES256"), ("k2", "RS256"))
ACCEPTING = Accepting(ISSUER)
TOKENS = [ISSUER.token(id).encode() for id in ("k1", "k2")]


@given(st.sampled_from(TOKENS), st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
def test_a_token_with_any_other_byte_is_rejected_without_an_internal_error(token: bytes, place: int, new: bytes, removed: int) -> None:
    place %= len(token)
    changed = token[:place] + new + token[place + removed :]
    try:
        accepted = ACCEPTING(changed)
    except (InvalidToken, SigningKeyUnknownError):
        return
    except ValueError:
        assert changed.count(b".") != 2  # is_token tells these apart
        return
    assert changed.rstrip(b"=") == token
    assert accepted.name == "staff/alice"


@given(st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "x"]), ANY_JSON))
def test_any_signed_claims_are_accepted_or_rejected_without_an_internal_error(claims: dict[str, Any]) -> None:
    payload = {"iss": URL, "aud": AUDIENCE, "sub": "alice", "exp": 9999999999, **claims}
    try:
        key = ACCEPTING(signed(json.dumps(payload).encode()))
    except InvalidToken:
        return
    assert key.name == f"staff/{payload['sub']}"
    assert payload["iss"] == URL
    assert AUDIENCE in payload["aud"]
