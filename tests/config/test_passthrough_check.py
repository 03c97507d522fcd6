"""`passthrough` in the YAML: valid settings, and refusals with their places."""

from __future__ import annotations

import pytest

from gateway.config.load import ConfigError, parse
from gateway.config.passthrough import METHODS, PassthroughConfig
from gateway.config.passthrough_check import check_allowed_patterns, check_passthrough, example_entry, is_plain
from gateway.config.problem import Problems
from tests.support.each import each

HEAD = (
    'providers:\n  openai: { api_key: "${K}" }\n  local: {}\n  behind: { type: openai, api_key: "${K}", proxy: "http://p:1" }\n'
    'models: { "m": openai/gpt-4o }\n'
)
HASH = "sha256:" + "a7" * 32


def problems(rest: str) -> list[str]:
    """Return the problems of a configuration as `LINE: PATH: MESSAGE`."""
    try:
        config = parse((HEAD + rest).encode(), "g.yaml", environ={"K": "sk-x"})
    except ConfigError as error:
        return [f"{problem.line}: {problem.path}: {problem.message}" for problem in error.problems]
    found = Problems("g.yaml")
    check_passthrough(config, found)
    check_allowed_patterns(config, None, "keys.k", found)
    assert len(found) == 0
    return []


def test_a_pattern_is_written_with_its_provider_or_with_settings() -> None:
    text = 'passthrough:\n  "/v1/audio/*": openai\n  /v1/batches: { provider: openai, methods: [GET], max_body: 2MiB, path: /b }\n'
    config = parse((HEAD + text).encode(), "g.yaml", environ={"K": "sk-x"})
    assert config.passthrough == {
        "/v1/audio/*": PassthroughConfig("/v1/audio/*", "openai", None, METHODS, 1 << 30),
        "/v1/batches": PassthroughConfig("/v1/batches", "openai", "/b", ("GET",), 2 << 20),
    }


@each(
    ("pattern", "message"),
    [
        ("/v1/chat/completions", "covers /v1/chat/completions"),
        ("/v1/*", "covers "),
        ("/*", "covers "),
        ("/v1/models/*", "covers /v1/models/*"),
        ("/v1/messages/count_tokens", "covers /v1/messages/count_tokens"),
        ("/v1/embeddings/explain", "covers /v1/embeddings/explain"),
        ("v1/files", "expected a path"),
        ("/v1/files/", "expected a path"),
        ("/v1/*/files", "expected a path"),
        ("/v1/files*", "expected a path"),
        ("/v1//files", "expected a path"),
        ("/v1/../files", "expected a path"),
        ("/v1/%66iles", "expected a path"),
        ("/v1/files?x", "expected a path"),
        ("/", "expected a path"),
    ],
)
def test_a_bad_pattern_is_reported_at_its_line(pattern: str, message: str) -> None:
    path = "/*" if pattern.endswith("/*") else "/x"
    (problem,) = problems(f'passthrough:\n  "/v1/ok/*": openai\n  "{pattern}": {{ provider: openai, path: "{path}" }}\n')
    assert problem.startswith("8: passthrough.")
    assert message in problem


@each(
    ("entry", "message"),
    [
        ('"/v1/a/*": opnai', "8: passthrough./v1/a/*: no provider 'opnai' in this file, did you mean 'openai'?"),
        ('"/v1/a/*": { provider: x }', "no provider 'x'"),
        ('"/v1/a/*": local', "the local engine has no other paths"),
        ('"/v1/a/*": {}', "passthrough./v1/a/*.provider: missing"),
        ('"/vendor/a/*": openai', "does not begin with /v1/: set the path at the provider, for example path: /*"),
        ('"/vendor/a": openai', "for example path: /a"),
        ('"/v1/a/*": { provider: openai, path: "/b" }', "if the pattern or the path ends in '/*', both must"),
        ('"/v1/a": { provider: openai, path: "/b/*" }', "both must"),
        ('"/v1/a": { provider: openai, path: "b" }', "expected a path"),
        ('"/v1/a": { provider: openai, path: "/../b" }', "expected a path"),
        ('"/v1/a": { provider: openai, methods: [TRACE] }', "TRACE"),
        ('"/v1/a": { provider: openai, methods: [] }', "expected at least one method"),
        ('"/v1/a": { provider: openai, methods: [POST], websocket: true }', "a WebSocket connection begins with GET"),
        ('"/v1/a": { provider: openai, websocket: true, websocket_idle: 5 }', "websocket_idle"),
        ('"/v1/a": { provider: openai, base_url: "http://x" }', "unknown key"),
    ],
)
def test_a_bad_entry_is_reported(entry: str, message: str) -> None:
    found = problems(f"passthrough:\n  # a comment\n  {entry}\n")
    assert any(message in problem for problem in found), found


@each(
    ("allowed", "is_valid"),
    [("/v1/audio/*", True), ("*", True), ("/v1/au*", True), ("/v1/audio", False), ("/v1/x*", False), ("/v1/audio/speech", False)],
)
def test_a_key_and_a_team_name_declared_patterns(allowed: str, is_valid: bool) -> None:
    key, team = (f'{name} passthrough: ["{allowed}"] }} }}' for name in (f'keys: {{ k: {{ hash: "{HASH}",', "teams: { t: {"))
    for section in (key, team):
        found = problems(f'passthrough: {{ "/v1/audio/*": openai }}\n{section}\n')
        assert (found == []) is is_valid, found
        assert is_valid or "under passthrough" in found[0]


@each(
    ("path", "example"),
    [
        ("/v1/audio/speech", '"/v1/audio/*": PROVIDER'),
        ("/v1/batches", '"/v1/batches/*": PROVIDER'),
        ("/v1/messages/batches", '"/v1/messages/batches/*": PROVIDER'),
        ("/fal/queue/x", '"/fal/*": { provider: PROVIDER, path: "/*" }'),
        ("/openai/v1/audio/speech", '"/openai/v1/audio/*": { provider: PROVIDER, path: "/audio/*" }'),
        ("/v2/parse", '"/v2/parse/*": { provider: PROVIDER, path: "/parse/*" }'),
        ("/v1", None),
        ("/v1/chat/completions", None),
        ('/v1/a"b', None),
        ("/v1/a b/c", None),
        ("/", None),
        ("", None),
    ],
)
def test_the_example_for_a_path_is_a_valid_entry_that_covers_it(path: str, example: str | None) -> None:
    assert example_entry(path) == example
    if example is not None:
        assert problems(f"passthrough: {{ {example.replace('PROVIDER', 'openai')} }}\n") == []


def test_an_entry_may_allow_websockets() -> None:
    assert problems('passthrough:\n  /v1/realtime: { provider: behind, websocket: true }\n') == []
    text = 'passthrough:\n  /v1/realtime: { provider: openai, websocket: true, websocket_idle: 30m }\n'
    entry = parse((HEAD + text).encode(), "g.yaml", environ={"K": "sk-x"}).passthrough["/v1/realtime"]
    assert (entry.websocket, entry.websocket_idle) == (True, 1800.0)
    for path in ("/v1/realtime", "/fal/queue/x", "/openai/v1/realtime"):
        example = example_entry(path, websocket=True)
        assert example is not None
        assert "websocket: true" in example
        assert problems(f"passthrough: {{ {example.replace('PROVIDER', 'openai')} }}\n") == []


def test_plain_paths() -> None:
    assert is_plain("/*")
    with pytest.raises(ConfigError):
        parse((HEAD + 'passthrough: ["/v1/a"]').encode(), "g.yaml", environ={"K": "x"})
