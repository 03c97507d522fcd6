"""Secrets come from ${NAME} and file:PATH only, and are never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load as config
from gateway.config.load import Config, ConfigError, Secret
from tests.support.each import each

CANARY = "canary-5e2f0d"


def parse(text: str, environ: dict[str, str] | None = None, folder: Path = Path()) -> Config:
    """Return the configuration of a YAML text in `folder`."""
    return config.parse(text.encode(), str(folder / "gateway.yaml"), environ=environ or {})


def message_of(text: str, environ: dict[str, str] | None = None, folder: Path = Path()) -> str:
    """Return the error message for a YAML text."""
    with pytest.raises(ConfigError) as caught:
        parse(text, environ, folder)
    return str(caught.value)


def test_a_secret_is_not_printed() -> None:
    secret = Secret(CANARY)
    assert (str(secret), repr(secret), f"{secret}") == ("***", "***", "***")
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY) != Secret("other")
    assert len({secret, Secret(CANARY)}) == 1


def test_a_printed_configuration_contains_no_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    (tmp_path / "key").chmod(0o600)
    text = """
store: redis://:${X}@h/0
providers:
  openai: { api_key: ["${X}", file:key], headers: {authorization: "${X}"}, proxy: "http://u:${X}@p:1" }
"""
    parsed = parse(text, {"X": CANARY}, tmp_path)
    assert CANARY in parsed.store
    assert CANARY not in repr(parsed)


def test_a_secret_file_loses_its_final_newline_and_can_be_reread(tmp_path: Path) -> None:
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
    ("content", "mode", "expected"),
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
def test_an_unusable_secret_file_is_refused(tmp_path: Path, content: bytes, mode: int, expected: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    message = message_of("providers:\n  openai: {api_key: file:key}", folder=tmp_path)
    assert message.startswith(f"{tmp_path}/gateway.yaml:2:21: providers.openai.api_key: ")
    assert expected in message
    assert str(path) in message


def test_a_missing_secret_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert f"cannot read {tmp_path}/nothing: No such file" in message_of("providers: {openai: {api_key: file:nothing}}", folder=tmp_path)
    assert "is not a file" in message_of("providers: {openai: {api_key: 'file:.'}}", folder=tmp_path)


@each(
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
def test_a_secret_in_the_wrong_place_is_not_printed(text: str) -> None:
    assert CANARY not in message_of(text)


@each(
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
@each("value", [CANARY, f"{CANARY}\u00e9\n", f" {CANARY}/x", f"file:{CANARY}"])
def test_messages_never_contain_the_value_of_a_variable(place: str, value: str) -> None:
    assert CANARY not in message_of(f"{place}\nkee: 0", {"X": value})


def test_an_empty_secret_is_reported_by_the_name_of_its_variable() -> None:
    assert "${X} is empty" in message_of("providers: {openai: {api_key: '${X}'}}", {"X": ""})


HASH = "sha256:" + "0123456789abcdef" * 4


def test_key_hashes_and_the_store_url_may_be_read_from_files(tmp_path: Path) -> None:
    for name, value in (("hash", HASH), ("store", f"redis://gateway:{CANARY}@redis:6379/0")):
        (tmp_path / name).write_text(value + "\n")
        (tmp_path / name).chmod(0o600)
    text = "store: file:store\nadmin: { key_hash: file:hash }\nkeys: { one: { hash: file:hash } }"
    parsed = parse(text, folder=tmp_path)
    assert (parsed.store, parsed.admin.key_hash, parsed.keys["one"].hash) == (f"redis://gateway:{CANARY}@redis:6379/0", HASH, HASH)
    assert CANARY not in repr(parsed)


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [(HASH, 0o644, "world-readable"), ("sha256:nonsense", 0o600, "expected sha256: and 64"), ("", 0o600, "is empty")],
)
def test_a_hash_file_is_refused_if_it_is_world_readable_or_invalid(tmp_path: Path, content: str, mode: int, expected: str) -> None:
    (tmp_path / "hash").write_text(content)
    (tmp_path / "hash").chmod(mode)
    assert expected in message_of("keys: { one: { hash: file:hash } }", folder=tmp_path)


def test_an_invalid_store_file_is_refused_without_its_content(tmp_path: Path) -> None:
    assert "cannot read" in message_of("store: file:missing", folder=tmp_path)
    (tmp_path / "store").write_text(f"mysql://{CANARY}")
    (tmp_path / "store").chmod(0o600)
    message = message_of("store: file:store", folder=tmp_path)
    assert "memory:// or a Redis URL" in message
    assert CANARY not in message
