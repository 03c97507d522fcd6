"""Secrets enter by ${NAME} and file:PATH alone, and never come out by printing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load as config
from gateway.config.load import Config, ConfigError, Secret

CANARY = "canary-5e2f0d"


def parse(text: str, environ: dict[str, str] | None = None, folder: Path = Path()) -> Config:
    """The Config of a YAML text that stands in `folder`."""
    return config.parse(text.encode(), str(folder / "gateway.yaml"), environ=environ or {})


def refused(text: str, environ: dict[str, str] | None = None, folder: Path = Path()) -> str:
    """What is said about a YAML text."""
    with pytest.raises(ConfigError) as caught:
        parse(text, environ, folder)
    return str(caught.value)


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(CANARY)
    assert (str(secret), repr(secret), f"{secret}") == ("***", "***", "***")
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY) != Secret("other")
    assert len({secret, Secret(CANARY)}) == 1


def test_a_printed_configuration_has_no_secret_in_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    (tmp_path / "key").chmod(0o600)
    text = """
store: redis://:${X}@h/0
providers:
  openai: { api_key: ["${X}", file:key], headers: {authorization: "${X}"}, proxy: "http://u:${X}@p:1" }
"""
    found = parse(text, {"X": CANARY}, tmp_path)
    assert CANARY in found.store
    assert CANARY not in repr(found)


def test_a_file_holds_a_secret_without_its_last_newline_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("first\n")
    path.chmod(0o600)
    secret = parse("providers: {openai: {api_key: file:key}}", folder=tmp_path).providers["openai"].api_key[0]
    assert (secret.reveal(), secret.path) == ("first", path)
    path.write_text("second\r\n")
    assert secret.reread().reveal() == "second"
    assert secret.reveal() == "first"
    assert Secret("from a variable").reread().reveal() == "from a variable"


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"two\nlines", 0o600, "line breaks or characters that are not allowed in a header"),
        (b" blank", 0o600, "has surrounding spaces"),
        (b"\xff\xfe", 0o600, "is not UTF-8 text"),
        (b"x" * 70_000, 0o600, "is too large for a secret"),
        (b"fine", 0o644, "world-readable"),
        (b"fine", 0o602, "world-writable"),
    ],
)
def test_a_file_that_cannot_hold_a_secret_is_refused(tmp_path: Path, content: bytes, mode: int, said: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    message = refused("providers:\n  openai: {api_key: file:key}", folder=tmp_path)
    assert message.startswith(f"{tmp_path}/gateway.yaml:2:21: providers.openai.api_key: ")
    assert said in message
    assert str(path) in message


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    assert f"cannot read {tmp_path}/nothing: No such file" in refused("providers: {openai: {api_key: file:nothing}}", folder=tmp_path)
    assert "is not a file" in refused("providers: {openai: {api_key: 'file:.'}}", folder=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{openai: {{api_key: {CANARY}}}}}",
        f"providers: {{openai: {{api_key: [{CANARY}]}}}}",
        f"providers: {{openai: {{api_key: {{value: {CANARY}}}}}}}",
        f"providers: {{openai: {CANARY}}}",
        f"providers: {{openai: [{CANARY}]}}",
        f"providers: {{openai: {{api_kee: {CANARY}}}}}",
        f"store: redis://:{CANARY}@host",
        f"store: {CANARY}",
        f"providers: {{openai: {{proxy: 'http://u:{CANARY}@p'}}}}",
        f"providers: {{openai: {{base_url: 'http://u:{CANARY}@p'}}}}",
        f"providers: {{openai: {{headers: {{a: [{CANARY}]}}}}}}",
        f"keys: {{a: {{hash: {CANARY}}}}}",
        f"keys: {{a: {CANARY}}}",
        f"admin: {{key_hash: {CANARY}}}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str) -> None:
    assert CANARY not in refused(text)


@pytest.mark.parametrize(
    "place",
    [
        "providers: {openai: {api_key: '${X}'}}",
        "providers: {openai: {api_key: 'file:${X}', ca: '${X}'}}",
        "providers: {openai: {type: '${X}'}}",
        "providers: {openai: {base_url: '${X}'}}",
        "providers: {openai: {timeout: '${X}'}}",
        "providers: {openai: {max_connections: '${X}'}}",
        "providers: {openai: {headers: {a: '${X}'}}}",
        "models: {m: '${X}/y'}",
        "models: {m: {targets: {a: '${X}'}}}",
        "listen: '${X}'",
        "admin: '${X}'",
        "max_body: '${X}'",
        "auth: '${X}'",
        "strict: '${X}'",
        "cors: ['${X}']",
        "trusted_proxies: ['${X}']",
        "keys: {a: {hash: '${X}', expires: '${X}', models: ['${X}']}}",
        "tls: {cert: '${X}', key: '${X}'}",
    ],
)
@pytest.mark.parametrize("value", [CANARY, f"{CANARY}\u00e9\n", f" {CANARY}/x", f"file:{CANARY}"])
def test_the_value_of_a_variable_is_in_no_message(place: str, value: str) -> None:
    assert CANARY not in refused(f"{place}\nkee: 0", {"X": value})


def test_a_secret_that_is_empty_is_named_by_its_variable() -> None:
    assert "${X} is empty" in refused("providers: {openai: {api_key: '${X}'}}", {"X": ""})


HASH = "sha256:" + "0123456789abcdef" * 4


def test_hashes_and_the_stores_url_may_be_files_of_their_own(tmp_path: Path) -> None:
    for name, value in (("hash", HASH), ("store", f"redis://gateway:{CANARY}@redis:6379/0")):
        (tmp_path / name).write_text(value + "\n")
        (tmp_path / name).chmod(0o600)
    text = "store: file:store\nadmin: { key_hash: file:hash }\nkeys: { one: { hash: file:hash } }"
    found = parse(text, folder=tmp_path)
    assert (found.store, found.admin.key_hash, found.keys["one"].hash) == (f"redis://gateway:{CANARY}@redis:6379/0", HASH, HASH)
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [(HASH, 0o644, "world-readable"), ("sha256:nonsense", 0o600, "expected sha256: and 64"), ("", 0o600, "is empty")],
)
def test_a_hash_file_is_refused_when_it_is_exposed_or_holds_no_hash(tmp_path: Path, content: str, mode: int, said: str) -> None:
    (tmp_path / "hash").write_text(content)
    (tmp_path / "hash").chmod(mode)
    assert said in refused("keys: { one: { hash: file:hash } }", folder=tmp_path)


def test_a_store_file_that_is_not_there_is_named_without_its_content(tmp_path: Path) -> None:
    assert "cannot read" in refused("store: file:missing", folder=tmp_path)
    (tmp_path / "store").write_text(f"mysql://{CANARY}")
    (tmp_path / "store").chmod(0o600)
    said = refused("store: file:store", folder=tmp_path)
    assert "memory:// or a Redis URL" in said
    assert CANARY not in said
