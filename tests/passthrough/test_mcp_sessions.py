"""Ids of MCP sessions and events carry a mark of the key that received them."""

from __future__ import annotations

import pytest
from msgspec import structs

import providers
from gateway.config.load import parse
from gateway.config.types import Config
from gateway.passthrough.mcp_sessions import Sessions, salt_of
from providers.base import Target

TARGET = Target("mcp/a", "mcp", providers.get("openai-compatible"), "a", "http://a/mcp", "the-servers-token", headers=(("x-a", "1"),))
HASHES = ["sha256:" + digit * 64 for digit in "123"]


@pytest.mark.parametrize("id", [b"s", b"a.b.c", b"", b"x" * 500])
def test_only_its_owner_can_use_a_session(id: bytes) -> None:
    given = Sessions(TARGET).for_caller("one", id)
    assert Sessions(TARGET).for_server("one", given) == id
    for owner, other in (("two", given), ("one", id), ("one", given + b"0"), ("one", given[1:]), ("", given), ("one", b".")):
        assert Sessions(TARGET).for_server(owner, other) is None


@pytest.mark.parametrize("id", [b"7", b"a.b.c", b"\xc3\xa9 x"])
def test_only_its_owner_can_resume_after_an_event_and_only_in_its_session(id: bytes) -> None:
    sessions = Sessions(TARGET)
    given = sessions.event_for_caller("one", b"s", id)
    assert sessions.event_for_server("one", b"s", given) == id
    for owner, session, other in (("two", b"s", given), ("one", b"", given), ("one", b"t", given), ("one", b"s", id), ("one", b"s", b"")):
        assert sessions.event_for_server(owner, session, other) is None
    assert sessions.for_server("one", given) is None  # the mark of an event is not the mark of a session
    assert sessions.event_for_server("one", b"", sessions.for_caller("one", id)) is None


def test_blanks_around_the_id_of_an_event_which_http_removes_do_not_matter() -> None:
    given = Sessions(TARGET).event_for_caller("one", b"", b" 7")
    assert Sessions(TARGET).event_for_server("one", b"", given.strip()) == b"7"


def test_mark_depends_on_the_server_and_its_credential() -> None:
    changes = ({"name": "mcp/b"}, {"base_url": "http://b/mcp"}, {"credential": "another-long-token"}, {"headers": ()})
    marks = {Sessions(structs.replace(TARGET, **change)).for_caller("one", b"s") for change in ({}, *changes)}
    assert len(marks) == 5


def test_salt_protects_the_sessions_of_a_server_without_a_credential_that_is_hard_to_guess() -> None:
    for credential, is_salted in ((None, True), ("", True), ("none", True), ("the-servers-token", False)):
        target = structs.replace(TARGET, credential=credential)
        plain, salted = (Sessions(target, salt).for_caller("one", b"s") for salt in (b"", b"salt"))
        assert (plain != salted) is is_salted


def config(rest: str = "", api_key: str = "", environ: dict[str, str] | None = None) -> Config:
    """Return a configuration with one provider, which has a credential if `api_key` is given."""
    credential = f', api_key: "{api_key}"' if api_key else ""
    text = f'providers: {{ p: {{ type: openai-compatible, base_url: "http://p/v1"{credential} }} }}\nmodels: {{ m: p/m }}\n'
    return parse((text + rest).encode(), "g.yaml", environ=environ or {})


def keys(*hashes: str) -> str:
    """Return the section `keys`."""
    return "keys:\n" + "".join(f'  k{at}: {{ hash: "{each}" }}\n' for at, each in enumerate(hashes))


def test_salt_is_stable_while_virtual_keys_change_if_there_are_other_secrets() -> None:
    long = {"P": "sk-a-long-credential"}
    assert salt_of(config(keys(HASHES[0]), "${P}", long)) == salt_of(config(keys(*HASHES), "${P}", long))
    assert salt_of(config("", "${P}", long)) != salt_of(config("", "${P}", {"P": "sk-another-credential"}))
    short = {"P": "none"}
    assert salt_of(config(keys(HASHES[0]), "${P}", short)) != salt_of(config(keys(*HASHES[:2]), "${P}", short))
    assert salt_of(config(keys(*HASHES))) == salt_of(config(keys(*HASHES)))
    admin = f'admin: {{ key_hash: "{HASHES[2]}" }}\n'
    assert salt_of(config(admin)) == salt_of(config(admin + keys(HASHES[0])))


def test_salt_is_random_without_any_secret() -> None:
    assert len(salt_of(config())) == 32
    assert salt_of(config()) == salt_of(config())  # a process has one random salt
