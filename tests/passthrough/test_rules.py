"""The rules of `passthrough`: the pattern that a raw path matches."""

from __future__ import annotations

from functools import cache

from gateway.config.load import parse
from gateway.passthrough.rules import Rules, rules_of, target_model
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog
from tests.support.each import each

YAML = b"""
providers:
  groq: { api_key: "${K}" }
  openai: { api_key: ["${K}", "${K}2"] }
passthrough:
  "/v1/audio/*": groq
  "/v1/audio/speech": openai
  "/v1/audio/speech/long/*": { provider: openai, max_body: 1MiB }
  "/v1/batches": { provider: openai, methods: [GET, POST] }
  "/fal/*": { provider: openai, path: "/x/*" }
"""


@cache
def rules() -> Rules:
    """Return the rules of the configuration."""
    config = parse(YAML, "g.yaml", environ={"K": "sk-x"})
    generation = Gateway(config, CallLog(2, human=True), lambda line: None).generation
    return rules_of(config, generation.backend)


@each(
    ("path", "pattern"),
    [
        ("/v1/audio", "/v1/audio/*"),
        ("/v1/audio/", "/v1/audio/*"),
        ("/v1/audio/transcriptions", "/v1/audio/*"),
        ("/v1/audio/speech", "/v1/audio/speech"),
        ("/v1/audio/speech/", "/v1/audio/*"),
        ("/v1/audio/speech/long/a/b", "/v1/audio/speech/long/*"),
        ("/v1/batches", "/v1/batches"),
        ("/v1/batches/1", None),
        ("/v1/batchesx", None),
        ("/v1/audiox", None),
        ("/v1/%61udio/speech", None),
        ("/V1/audio", None),
        ("/fal/any/where", "/fal/*"),
        ("", None),
    ],
)
def test_the_longest_pattern_that_matches_the_raw_path_applies(path: str, pattern: str | None) -> None:
    found = rules().find(path.encode())
    assert (None if found is None else found.pattern) == pattern


def test_a_rule_has_the_address_the_methods_and_the_credentials_of_its_provider() -> None:
    audio, batches, fal = (rules().find(path) for path in (b"/v1/audio", b"/v1/batches", b"/fal"))
    assert audio is not None
    assert batches is not None
    assert fal is not None
    assert (audio.origin.host, audio.upstream, audio.max_body) == ("api.groq.com", "/openai/v1/audio", 1 << 30)
    assert (batches.methods, batches.upstream) == (frozenset({"GET", "POST"}), "/v1/batches")
    assert [target.credential for target in batches.backend.targets] == ["sk-x", "sk-x2"]
    assert (fal.upstream, fal.backend.target.name) == ("/v1/x", "openai/fal/*")
    assert target_model(parse(YAML, "g.yaml", environ={"K": "sk-x"}).passthrough["/v1/batches"]) == "v1/batches"
