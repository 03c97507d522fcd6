"""Mistakes under `issuers` are reported with their place and the likely fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.issuer_check import MAX_LEEWAY_S, MIN_REFRESH_S
from gateway.config.source import ConfigSource
from tests.support.each import each
from tests.support.issuer import key_set, private_key, public_jwk

BASE = """
providers: { local: {}, up: { type: vllm, base_url: "http://127.0.0.1:1/v1" } }
models: { fast: local/x, big: up/y }
teams: { search: {} }
tags: [chat]
"""
ISSUER = "issuer: 'https://login.example.com', audience: lockgate"


def policy(settings: str) -> str:
    """Return the settings of an issuer with one policy for all tokens."""
    return f"{ISSUER}, policies: {{ '*': {{ {settings} }} }}"


def problems(text: str, path: str = "g.yaml") -> str:
    """Return the problems of a configuration; "" if there are none."""
    try:
        load.parse((BASE + text).encode(), path, environ={})
    except load.ConfigError as error:
        return str(error)
    return ""


@each(
    ("settings", "problem"),
    [
        ("issuer: 'https://login.example.com'", "issuers.staff.audience: missing"),
        ("audience: lockgate", "issuers.staff.issuer: missing"),
        ("issuer: kubernetes, audience: x", "is not an https URL, so its keys cannot be found: set jwks_url or jwks_file"),
        ("issuer: 'http://login.example.com', audience: x", "issuers.staff.issuer: is not an https URL"),
        (f"{ISSUER}, jwks_url: 'http://login.example.com/keys'", "keys that are sent over http could be replaced in transit: use https"),
        (f"{ISSUER}, jwks_url: 'https://u:p@login.example.com/keys'", "issuers.staff.jwks_url: do not write the password into this file"),
        (f"{ISSUER}, jwks_file: missing.json", "issuers.staff.jwks_file: cannot read 'missing.json': no such file"),
        (f"{ISSUER}, algorithms: [HS256]", "issuers.staff.algorithms[0]: expected one of ES256, ES384"),
        (f"{ISSUER}, algorithms: [none]", "issuers.staff.algorithms[0]: expected one of ES256"),
        (f"{ISSUER}, algorithms: []", "issuers.staff.algorithms: expected at least one algorithm"),
        (f"{ISSUER}, leeway: 6m", f"issuers.staff.leeway: must be at most {MAX_LEEWAY_S:g}s"),
        (f"{ISSUER}, refresh: 9s", f"issuers.staff.refresh: must be at least {MIN_REFRESH_S:g}s"),
        (f"{ISSUER}, audience_: x", "issuers.staff.audience_: unknown key, did you mean 'audience'?"),
        ("issuer: 'https://a.example.com', audience: []", "issuers.staff.audience: expected a value such as lockgate, got"),
        (f"{ISSUER}, teams: {{ a: search }}", "issuers.staff.teams: has no effect without team_claim"),
        (f"{ISSUER}, team_claim: g, teams: {{ a: serch }}", "issuers.staff.teams.a: no team 'serch' in this file, did you mean 'search'?"),
        (f"{ISSUER}, policies: {{ a: {{ strict: true }} }}", "issuers.staff.policies: set policy_claim"),
        (f"{ISSUER}, policy_claim: roles", "issuers.staff.policy_claim: has no effect without policies"),
        (policy("team: nope"), "issuers.staff.policies.*.team: no team 'nope' in this file"),
        (policy("tags: [chatt]"), "issuers.staff.policies.*.tags[0]: no tag 'chatt' under tags, did you mean 'chat'?"),
        (policy("models: [fasst]"), "issuers.staff.policies.*.models[0]: no model 'fasst' in this file"),
        (policy("bring_credentials: [x]"), "issuers.staff.policies.*.bring_credentials[0]: no provider 'x'"),
        (policy("passthrough: [/v1/x]"), "issuers.staff.policies.*.passthrough[0]: no pattern '/v1/x'"),
        (policy("limits: { spend: 1 USD/day }"), "issuers.staff.policies.*.limits.spend: up/y has no known price"),
        (policy("models: { big: { limits: { spend: 1 USD/day } } }"), ".models.big.limits.spend: up/y has no"),
        (policy("limits: { requests: [1/s, 2/s] }"), "limits.requests[1]: second limit for the window 's'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(settings: str, problem: str) -> None:
    assert problem in problems(f"issuers: {{ staff: {{ {settings} }} }}").replace('"', "'")


def test_valid_settings_have_no_problem() -> None:
    dev = "{ models: [fast], team: search, tags: [chat], limits: { spend: 1 USD/day } }"
    assert problems(f"issuers: {{ staff: {{ {ISSUER}, policy_claim: roles, policies: {{ dev: {dev}, '*': {{}} }} }} }}") == ""
    assert problems("issuers: { dev: { issuer: 'http://127.0.0.1:9000', audience: x } }") == ""
    assert problems("issuers: { k8s: { issuer: kubernetes, audience: x, jwks_url: 'https://k8s.example.com/keys' } }") == ""


@each("name", ["a/b", "a b", "", "ä", "x" * 65])
def test_the_name_of_an_issuer_is_plain(name: str) -> None:
    found = problems(f"issuers: {{ {json.dumps(name)}: {{ {ISSUER} }} }}")
    assert "an issuer's name has at most 64 letters, digits and . _ -, and begins with a letter or digit" in found


def test_one_issuer_has_one_entry() -> None:
    text = problems(f"issuers: {{ a: {{ {ISSUER} }}, b: {{ {ISSUER} }} }}")
    assert "issuers.b.issuer: same issuer as 'a': list all audiences under 'a'" in text


def test_a_key_cannot_have_the_name_of_an_issuers_caller() -> None:
    hash = "sha256:" + "1" * 64
    text = problems(f"issuers: {{ staff: {{ {ISSUER} }} }}\nkeys: {{ staff/alice: {{ hash: '{hash}' }} }}")
    assert "keys.staff/alice: names that begin with 'staff/' belong to callers" in text
    others = f"{{ other/alice: {{ hash: '{hash}' }}, staff: {{ hash: '{hash[:-1]}2' }} }}"
    assert problems(f"issuers: {{ staff: {{ {ISSUER} }} }}\nkeys: {others}") == ""


def test_gateway_with_an_issuer_requires_credentials() -> None:
    """A gateway with an issuer may listen on every address, and cannot ignore the issuer."""
    config = load.parse((BASE + f"listen: 0.0.0.0:8080\nissuers: {{ staff: {{ {ISSUER} }} }}").encode(), "g.yaml", environ={})
    assert config.requires_keys
    assert "there are no keys" in problems("listen: 0.0.0.0:8080")
    assert problems(f"auth: keys\nissuers: {{ staff: {{ {ISSUER} }} }}") == ""
    assert "auth: none ignores the issuers in this file" in problems(f"auth: none\nissuers: {{ staff: {{ {ISSUER} }} }}")


def test_keys_of_a_file_are_read_with_the_configuration(tmp_path: Path) -> None:
    content = key_set(public_jwk(private_key("ES256"), "k1"))
    (tmp_path / "keys.json").write_text(content)
    (tmp_path / "g.yaml").write_text(BASE + f"issuers: {{ staff: {{ {ISSUER}, jwks_file: keys.json }} }}")
    source = ConfigSource(str(tmp_path / "g.yaml"), load.NO_OVERRIDES, {})
    loaded = source.read()
    assert loaded.config.issuers["staff"].key_set == content
    assert loaded.text.parse({}).issuers["staff"].key_set == content
    assert source.changed_fingerprints() == {}
    (tmp_path / "keys.json").write_text(content + " ")
    assert source.changed_fingerprints() != {}
    (tmp_path / "keys.json").unlink()
    assert loaded.text.parse({}).issuers["staff"].key_set == content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "keys.json is unusable: it is not valid JSON"),
        ("{}", "it is not a JSON Web Key Set: expected an object with the list 'keys'"),
        (key_set({"kty": "oct", "k": "AAAA"}), "it has no public key that can verify signatures"),
        (key_set({**public_jwk(private_key("ES256")), "d": "AAAA"}), "it contains a private key: publish only the public parts"),
    ],
)
def test_an_unusable_file_of_keys_is_reported(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    text = problems(f"issuers: {{ staff: {{ {ISSUER}, jwks_file: keys.json }} }}", str(tmp_path / "g.yaml"))
    assert problem in text
    assert "issuers.staff.jwks_file" in text


def test_a_file_of_keys_excludes_other_sources(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(key_set(public_jwk(private_key("ES256"), "k1")))
    more = "jwks_file: keys.json, jwks_url: 'https://login.example.com/keys', proxy: env"
    text = problems(f"issuers: {{ staff: {{ {ISSUER}, {more} }} }}", str(tmp_path / "g.yaml"))
    assert "jwks_url is set as well: remove one of them" in text
    assert "issuers.staff.proxy: has no effect with jwks_file" in text
