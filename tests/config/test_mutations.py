"""Property: a mutated configuration is either valid or refused with messages that have a place, without a traceback."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config import load as config
from gateway.config.load import Config, ConfigError
from tests.support.search import examples

ROOT = Path(__file__).parents[2]
SOURCES = [path.read_bytes() for path in [ROOT / "config" / "gateway.yaml", *sorted((ROOT / "config" / "examples").glob("*.yaml"))]]
CANARY = "canary-7d1c55"
ENVIRON = dict.fromkeys(["OPENAI_API_KEY", "OPENAI_API_KEY_2", "GROQ_API_KEY", "REDIS_PASSWORD", "ADMIN_KEY_HASH", "APP_KEY_HASH"], CANARY)
LINE = re.compile(r"g\.yaml:[1-9]\d*:[1-9]\d*: \S.*")
MORE = re.compile(r"g\.yaml: and \d+ more problems")
PIECES = [
    b"\t", b"\n", b"  ", b":", b": ", b"{", b"}", b"[", b"]", b"- ", b"*", b"*a", b"&a ", b"!!set ", b"<<: ", b"? ", b"|", b">", b"'", b'"',
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"---\n", b"...",
    b"null", b"~", b"true", b"-1", b"1e999", b".nan", b"${", b"${X}", b"${X:-}", b"$${",
    b"file:", b"file:/", b"targets: ", b"type: ", b"local", b"\xe2\x80\xa8", b"#", b"%", b"@", b"`", b"0" * 5000, b"\r", b"providers:\n",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a shipped file with pieces removed, doubled, replaced or inserted."""
    data = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end if draw(st.booleans()) else start :]
    return data


@st.composite
def rearranged(draw: st.DrawFn) -> bytes:
    """Return lines of shipped files in another order and with other indentation."""
    lines = draw(st.lists(st.sampled_from([line for data in SOURCES for line in data.splitlines()]), min_size=1, max_size=25))
    return b"\n".join(b" " * draw(st.integers(0, 6)) + line.lstrip() for line in lines)


def outcome(data: bytes) -> Config | str:
    """Return the Config, or the messages."""
    try:
        return config.parse(data, "g.yaml", environ=ENVIRON)
    except ConfigError as error:
        return str(error)


@settings(max_examples=examples(500))
@given(st.one_of(mutated(), rearranged()))
@example(b"")
@example(b"models: {a: &x [*x]}")
@example(b"providers: {openai: {api_key: 'file:~nobody-here/x'}}")
@example(b"listen: '[::1%${OPENAI_API_KEY}]:1'")
def test_a_mutated_configuration_is_valid_or_refused_with_messages(data: bytes) -> None:
    result = outcome(data)
    if isinstance(result, Config):
        assert CANARY not in repr(result.providers)
    else:
        assert all(LINE.fullmatch(line) or MORE.fullmatch(line) for line in result.split("\n")), result
        assert CANARY not in result
