"""Messages for mistakes in the YAML: file, line, column, path, fault and fix. All mistakes are reported together."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load as config
from gateway.config.load import ConfigError
from gateway.config.yamlfile import MAX_BYTES
from tests.support.each import each

HASH = "sha256:" + "ab" * 32
LOCAL = "providers: {local: {}}\n"
TARGET = "PROVIDER/MODEL, for example openai/gpt-4o, or another model's name"
DURATION = "expected a duration such as 500ms, 60s or 2m"


def lines(data: bytes | str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the messages for a YAML text named g.yaml."""
    with pytest.raises(ConfigError) as caught:
        config.parse(data.encode() if isinstance(data, str) else data, "g.yaml", environ=environ or {})
    return str(caught.value).splitlines()


UNKNOWN = [
    ("lisen: 127.0.0.1:1", "1:1: lisen: unknown key, did you mean 'listen'?"),
    ("Models: {}", "1:1: Models: unknown key, did you mean 'models'?"),
    ("model_list: []", "1:1: model_list: unknown key, did you mean 'models'?"),
    ("trustedProxies: []", "1:1: trustedProxies: unknown key, did you mean 'trusted_proxies'?"),
    ("tls: {crt: x}", "1:7: tls.crt: unknown key, did you mean 'cert'?"),
    ("admin: {qqq: 1}", "1:9: admin.qqq: unknown key; known keys: hosts, key_hash, listen, metrics"),
    ("providers: {local: {thread: 1}}", "1:21: providers.local.thread: unknown key, did you mean 'threads'?"),
    ("providers: {ollama: {apiKey: 1}}", "1:22: providers.ollama.apiKey: unknown key, did you mean 'api_key'?"),
    ("providers: {ollama: {api_base: 1}}", "1:22: providers.ollama.api_base: unknown key, did you mean 'base_url'?"),
    (LOCAL + "models:\n  fast:\n    targets: local/x\n    retrys: 1", "5:5: models.fast.retrys: unknown key, did you mean 'retries'?"),
    (LOCAL + "models: {m: {fallbacks: [local/x]}}", "2:14: models.m.fallbacks: unknown key, did you mean 'targets'?"),
    (
        LOCAL + "models: {m: {targets: local/x, fallback_on: [filter]}}",
        "2:46: models.m.fallback_on[0]: expected one of content_filter, invalid_request; got 'filter'",
    ),
    ("teams: {a: {limit: {}}}", "1:13: teams.a.limit: unknown key, did you mean 'limits'?"),
]

TYPES = [
    ("providers: {gpu: {tpye: vllm}}", "1:19: providers.gpu.tpye: unknown key, did you mean 'type'?"),
    ("providers: {gpu: {base_url: 'http://x'}}", "1:18: providers.gpu.type: missing, because 'gpu' is not a provider type: use one of "),
    ("providers: {olama: {}}", "; did you mean 'ollama'?"),
    ("providers: {gpu: {type: vlm}}", "1:25: providers.gpu.type: unknown type, did you mean 'vllm'?"),
    ("providers: {gpu: {type: [vllm]}}", "1:25: providers.gpu.type: unknown type; types: "),
    ("providers: {a: {type: openai-compatible}}", "1:16: providers.a.base_url: missing: openai-compatible has no default address"),
    (
        "providers: {openai: {}}",
        '1:21: providers.openai.api_key: missing: openai requires a key, for example "${OPENAI_API_KEY}"',
    ),
    ("providers: {a/b: {type: ollama}}", "1:18: providers.a/b: a provider's name must be printable text without '/'"),
    ("providers: {local: {slots: 0}}", "1:28: providers.local.slots: expected an integer, at least 1 and at most 64; got '0'"),
    ("providers: {local: {slots: two}}", "1:28: providers.local.slots: expected an integer; got 'two'"),
]

VALUES = [
    ("providers: []", "1:12: providers: expected a mapping, got a list"),
    ("providers: {ollama: x}", "1:21: providers.ollama: expected a mapping, got text"),
    ("strict: 'true'", "1:9: strict: expected true or false; got 'true'"),
    ("strict: yes", "1:9: strict: expected true or false; got 'yes'"),
    ("strict:", "1:8: strict: expected true or false, got nothing"),
    ("strict: [true]", "1:9: strict: expected true or false, got a list"),
    ("auth: kees", "1:7: auth: expected one of auto, keys, none; got 'kees', did you mean 'keys'?"),
    (
        "providers: {local: {max_connections: 0}}",
        "1:38: providers.local.max_connections: expected an integer, at least 1 and at most 100000; got '0'",
    ),
    ("providers: {local: {max_connections: '5'}}", "expected an integer, without quotes; got '5'"),
    ("providers: {local: {max_connections: 1.5}}", "expected an integer; got '1.5'"),
    ("providers: {local: {timeout: 60}}", f"1:30: providers.local.timeout: {DURATION} (add a unit); got '60'"),
    ("providers: {local: {timeout: 1min}}", f"{DURATION}; got '1min'"),
    ("providers: {local: {timeout: 0s}}", "a duration must be more than 0 and at most 24h; got '0s'"),
    ("providers: {local: {timeout: 25h}}", "a duration must be more than 0 and at most 24h; got '25h'"),
    ("providers: {local: {timeout: {a: b}}}", "expected a value such as 60s, got a mapping"),
    ('providers: {local: {headers: {a: "x\\ny"}}}', "a header must be printable ASCII without surrounding spaces or line breaks"),
    ("max_body: 32M", "1:11: max_body: expected a size such as 32MiB, 512KiB or 10MB; got '32M'"),
    ("listen: 8080", "1:9: listen: expected HOST:PORT, for example 127.0.0.1:8080 (0.0.0.0:8080 for every interface); got '8080'"),
    ("listen: 127.0.0.1:99999", "listen: expected HOST:PORT"),
    ("listen: '[nonsense]:80'", "listen: expected HOST:PORT"),
    ("store: sqlite://x", "1:8: store: expected memory:// or a Redis URL"),
    ("store: redis+sentinel://", "1:8: store: expected memory:// or a Redis URL"),
    ("store: redis://:secret@h", "1:8: store: do not write the password into this file: use ${NAME}"),
    ("cors: https://a.example", "1:7: cors: expected a list, got text"),
    ("cors: [a.example]", "1:8: cors[0]: expected an origin such as https://app.example.com, or '*'; got 'a.example'"),
    ("cors: ['https://a.example/x']", "cors[0]: an origin has only a scheme, a host and a port: write https://app.example.com"),
    ("trusted_proxies: [10.0.0.0/99]", "1:19: trusted_proxies[0]: expected an IP address or network such as 10.0.0.0/8; got '10.0.0.0/99'"),
    ("providers: {vllm: {base_url: vllm:8000}}", "1:30: providers.vllm.base_url: expected a URL such as https://api.example.com/v1"),
    ("providers: {vllm: {base_url: 'http://x/v1/chat/completions'}}", "before the operation's path: remove '/chat/completions'"),
    ("providers: {vllm: {base_url: 'http://x/v1?k=1'}}", "must not contain '?' or '#'"),
    ("providers: {vllm: {base_url: 'http://x:99999'}}", "expected a URL such as https://api.example.com/v1"),
    ("providers: {vllm: {proxy: 'ftp://x'}}", "providers.vllm.proxy: expected 'env' or the URL of a proxy"),
    ("providers: {vllm: {ca: missing.pem}}", "1:24: providers.vllm.ca: cannot read 'missing.pem': no such file (relative to "),
    ("providers: {vllm: {api_key: []}}", "1:29: providers.vllm.api_key: expected at least one secret"),
    ("providers: {vllm: {api_key: sk-1}}", 'providers.vllm.api_key: do not write a secret into this file: use "${NAME}" or file:PATH'),
    ("providers: {vllm: {api_key: }}", 'providers.vllm.api_key: expected "${NAME}" or file:PATH, got nothing'),
    ("providers: {vllm: {api_key: '${NO_SUCH}'}}", "the environment variable NO_SUCH is not set: set it, or write ${NO_SUCH:-default}"),
    ("listen: '${HOST}:80'", "1:9: listen: the environment variable HOST is not set: set it, or write ${HOST:-default}"),
    ("listen: '${HOST?}:80'", "1:9: listen: a variable must be written as ${NAME} or ${NAME:-default}"),
    ("listen: '${'", "1:9: listen: a variable must be written as ${NAME} or ${NAME:-default}"),
]

PROVIDERS = [
    (
        "providers: {ollama: {cooldown: {time: 10m}}}",
        "1:39: providers.ollama.cooldown.time: longer than cooldown.max (300 s): lower this value, or raise cooldown.max",
    ),
    ("providers: {ollama: {max_queue: 5}}", "1:33: providers.ollama.max_queue: requires max_concurrent"),
    ("providers: {ollama: {cooldown: {failure: 5}}}", "1:33: providers.ollama.cooldown.failure: unknown key, did you mean 'failures'?"),
    ("providers: {ollama: {cooldown: 30s}}", "1:32: providers.ollama.cooldown: expected a mapping, got text"),
    ("providers: {ollama: {probe: {every: 5s}}}", "1:29: providers.ollama.probe.path: missing"),
    ("providers: {ollama: {probe: {path: models}}}", "1:36: providers.ollama.probe.path: expected text that matches ^/"),
    ("providers: {ollama: {max_concurrent: 0}}", "1:38: providers.ollama.max_concurrent: expected an integer, at least 1"),
    ("retry_budget: 20", "1:15: retry_budget: expected a number, at least 0 and at most 1; got '20'"),
]

ROUTES = [
    ("models: {m: openai/gpt-4o}", "1:13: models.m: no provider 'openai' in this file; providers: none"),
    (LOCAL + "models: {m: lokal/x}", "2:13: models.m: no provider 'lokal' in this file, did you mean 'local'?"),
    (LOCAL + "models: {m: local}", "2:13: models.m: no model 'local' in this file; for a model of the provider write 'local/MODEL'"),
    (LOCAL + "models: {smart: local/x, m: [smrt]}", "2:30: models.m[0]: no model 'smrt' in this file, did you mean 'smart'?"),
    (
        LOCAL + "models:\n  m:\n    targets:\n      - {local/x: 1, locl/y: 2}",
        "5:22: models.m.targets[0].locl/y: no provider 'locl' in this file",
    ),
    (LOCAL + "models: {m: m}", "2:13: models.m: models form a cycle: m -> m"),
    (LOCAL + "models: {a: b, b: [local/x, c], c: {a: 1}}", "2:37: models.c.a: models form a cycle: a -> b -> c -> a"),
    (LOCAL + "models: {m: }", "2:13: models.m: expected a target such as openai/gpt-4o, or another model's name; got nothing"),
    (LOCAL + "models: {m: []}", "2:13: models.m: an order needs at least one target"),
    (LOCAL + "models: {m: {}}", "2:13: models.m: a split needs at least one target"),
    (LOCAL + "models: {m: [[local/x]]}", "2:14: models.m[0]: a list inside a list"),
    (LOCAL + "models: {m: local/}", f"2:13: models.m: expected {TARGET}"),
    (LOCAL + "models: {m: /x}", f"2:13: models.m: expected {TARGET}"),
    (LOCAL + "models: {m: local/*}", "2:13: models.m: a target with '*' needs a model whose name ends with '*', such as "),
    (LOCAL + "models: {'*': local/*-*}", "2:15: models.*: a target may have only one '*'"),
    (
        LOCAL + "models: {'*': {targets: local/x, mirror: {target: local/*}}}",
        "a target with '*' needs a model whose name ends with '*'",
    ),
    (LOCAL + "models: {'a-*': local/*, b: a-*}", "2:29: models.b: 'a-*' has targets with '*', so it needs the name from a caller"),
    (LOCAL + "models: {m: {local/x: many}}", "2:23: models.m.local/x: expected a weight, a number such as 3"),
    (LOCAL + "models: {m: {local/x: -1}}", "models.m.local/x: expected a weight"),
    (LOCAL + "models: {m: {local/x: .inf}}", "models.m.local/x: expected a weight"),
    (LOCAL + "models: {m: {local/x: 0, local/y: 0}}", "2:13: models.m: every weight is 0: give at least one target a weight"),
    (LOCAL + "models: {m: {timeout: 1s}}", "2:13: models.m.targets: missing"),
    (LOCAL + "models: {a*b: local/x}", "models.a*b: a model's name must be printable text, with '*' only at its end"),
    (LOCAL + "models: {m: {targets: [local/x], balance: session}}", "models.m.balance: balance needs a split"),
    (
        LOCAL + "models: {m: {targets: {local/x: 1}, balance: sesion}}",
        "models.m.balance: expected one of cost, latency, least_busy, prefix, session, weighted",
    ),
    (
        LOCAL + "models: {m: {targets: [{local/x: 1}, local/y], balance: latency}}",
        "models.m.balance: balance needs a split with at least two targets",
    ),
    (
        "providers: {g: {type: openai-compatible, base_url: http://v/v1}}\nmodels: {m: {targets: n, continue_on_cut: true}, n: [g/x, g/y]}",
        "models.m.continue_on_cut: no target can continue a stream: use vllm, llamacpp, mistral, anthropic or local",
    ),
    (
        LOCAL + "models:\n  m:\n    targets: local/x\n    retries: 3",
        "5:14: models.m.retries: exceeds the default of attempts (3 requests per call, the first one included): "
        "set retries: 2, or attempts: 4 or more",
    ),
    (
        LOCAL + "models: {m: {targets: local/x, retries: 2, attempts: 1}}",
        "models.m.retries: exceeds attempts (1 request per call, the first one included): set attempts: 3 or more",
    ),
    (
        LOCAL + "models: {m: {targets: local/x, timeout: 5s, first_byte_timeout: 10s}}",
        "models.m.first_byte_timeout: longer than timeout (5 s), which ends the call first: lower this value, or raise models.m.timeout",
    ),
    (
        "providers: {local: {timeout: 5s, idle_timeout: 6s}}",
        "providers.local.idle_timeout: longer than timeout (5 s), which ends the call first: lower this value, or raise",
    ),
    ("providers: {local: {first_byte_timeout: 20m}}", "providers.local.first_byte_timeout: longer than timeout (600 s)"),
    (LOCAL + "models: {m: {targets: {local/x: 1}, session_header: x-id}}", "models.m.session_header: requires balance: session"),
    (
        "providers: {v: {type: vllm, base_url: http://v/v1}}\nmodels: {m: {targets: [{n: 1, v/y: 1}], balance: cost}, n: [v/x]}",
        "2:50: models.m.balance: v/x has no known price, so its cost cannot be compared: add the price under providers.v.prices",
    ),
    (
        "providers: {v: {type: vllm, base_url: http://v/v1, prices: {x: {input: 1}}}}\n"
        "models: {m: {targets: {v/x: 1, v/y: 1}, balance: cost}}",
        "1:65: providers.v.prices.x.input: unknown key",
    ),
    (
        LOCAL + "models: {m: {targets: {local/x: 1, local/y: 0}, hedge: p95}}",
        "models.m.hedge: hedge needs a second target",
    ),
    (
        LOCAL + "models: {m: {targets: [local/x, local/y], hedge: soon}}",
        "models.m.hedge: expected a duration such as 800ms, or a percentile",
    ),
    (LOCAL + "models: {m: {targets: [local/x, local/y], hedge: p10}}", "models.m.hedge: a percentile must be between p50 and p99.9"),
    (
        LOCAL + "models: {m: {targets: [local/x, local/y], hedge: {after: 1s, budget: 6%}}}",
        "models.m.hedge.budget: must be at most 5%",
    ),
    (LOCAL + "models: {m: {targets: local/x, mirror: lokal/y}}", "2:40: models.m.mirror: no provider 'lokal' in this file, did you"),
    (
        LOCAL + "models: {m: {targets: local/x, mirror: {target: n, share: 5%}}, n: [local/y, m]}",
        "2:49: models.m.mirror.target: the mirror of m leads back to m",
    ),
    (LOCAL + "models: {m: {targets: local/x, mirror: {share: 5%}}}", "models.m.mirror.target: missing"),
    (LOCAL + "models: {m: {targets: local/x, mirror: {target: local/y, share: 0.1}}}", "mirror.share: expected a percentage such as 10%"),
    (LOCAL + "models: {m: {targets: local/x, retries: 11}}", "models.m.retries: expected an integer, at least 0 and at most 10"),
]

KEYS = [
    ("keys: {k: {}}", "1:11: keys.k.hash: missing"),
    (
        "keys: {k: {hash: sha256:abc}}",
        '1:18: keys.k.hash: expected sha256: and 64 hexadecimal digits, the output of: printf %s "$KEY" | sha256sum',
    ),
    (
        "keys: {k: {hash: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}}",
        "keys.k.hash: this is the hash of a well-known key",
    ),
    (f"keys: {{a: {{hash: '{HASH}'}}, b: {{hash: '{HASH}'}}}}", "keys.b.hash: same key as 'a'"),
    (f"keys: {{k: {{hash: '{HASH}', models: [x]}}}}", "keys.k.models[0]: no model 'x' in this file; models: none"),
    (f"keys: {{k: {{hash: '{HASH}', expires: soon}}}}", "keys.k.expires: expected a date such as 2027-01-31"),
    (f"keys: {{k: {{hash: '{HASH}', expires: 2027-02-30}}}}", "keys.k.expires: expected a date such as 2027-01-31"),
    (f"keys: {{k: {{hash: '{HASH}', expires: 9999-12-31}}}}", "keys.k.expires: expected a date such as 2027-01-31"),
    ("listen: 0.0.0.0:80", "1:9: listen: 0.0.0.0:80 is reachable from other machines and there are no keys: add a key under keys"),
    ("admin: 0.0.0.0:80", "1:8: admin: 0.0.0.0:80 is reachable from other machines: set admin.key_hash, or listen on 127.0.0.1"),
    ("listen: 127.0.0.1:1\nadmin: 127.0.0.1:1", "2:8: admin: the admin listener cannot share 127.0.0.1:1 with the callers' listener"),
    ("auth: keys", "1:7: auth: no keys are configured and none can be created: set admin.key_hash"),
    (f"auth: none\nkeys: {{k: {{hash: '{HASH}'}}}}", "1:7: auth: auth: none ignores the keys in this file: remove auth or remove the keys"),
    ("tls: {cert: a.pem, key: b.pem}", "1:13: tls.cert: cannot read 'a.pem': no such file"),
    ("tls: {}", "1:6: tls.cert: missing"),
]

YAML = [
    ("", "1:1: the file is empty"),
    ("# nothing\n", "1:1: the file is empty"),
    ("---\n", "1:1: the file is empty"),
    ("null", "1:1: the file is empty"),
    ("- a", "1:1: expected a mapping, got a list"),
    ("just text", "1:1: expected a mapping, got text"),
    ("a: 1\n---\nb: 2", "2:1: more than one document ('---'): a file must contain only one"),
    ("models:\n\tm: x", "2:1: a tab is not allowed here: indent with spaces"),
    ("models:\n  m: [x", "not valid YAML: "),
    ("models: {m: x}}", "not valid YAML: "),
    ("strict: true\nstrict: false", "2:1: strict: duplicate key, already set on line 1"),
    ("providers:\n  local: {slots: 1, slots: 2}", "2:21: providers.local.slots: duplicate key, already set on line 2"),
    (LOCAL + "models:\n  m: local/x\n  m: local/y", "4:3: models.m: duplicate key, already set on line 3"),
    (LOCAL + "models: {m: {local/x: 1, local/x: 2}}", "2:26: models.m.local/x: duplicate key, already set on line 2"),
    ("providers: {openai: {api_key: ${KEY}}}", '1:32: not valid YAML: inside { } and [ ] a variable needs quotes: "${NAME}"'),
    ("models:\n  *: x", "not valid YAML: a name that starts with * needs quotes: \"*\""),
    ("models: *nowhere", "1:9: not valid YAML: found undefined alias"),
    ("models: &a {m: *a}", "an alias contains itself, or is nested too deep"),
    ("models: !!python/object:os.system x", "1:9: the tag 'tag:yaml.org,2002:python/object:os.system' is not supported: remove it"),
    ("? [a]\n: b", "1:3: a key must be text, not a list or a mapping"),
    ("<<: x", "1:5: '<<' must be followed by the alias of a mapping"),
    ("[" * 100_000, "nested deeper than 32 levels"),
    ("a: " * 50_000, "not valid YAML: "),
    ("models: [" + "a," * 100_000 + "]", "more than 50000 values"),
    ("x" * (MAX_BYTES + 1), "1:1: the file is larger than 16 MiB"),
]  # fmt: skip


MISTAKES = [*UNKNOWN, *TYPES, *VALUES, *PROVIDERS, *ROUTES, *KEYS, *YAML]


@each(("text", "expected"), MISTAKES, ids=lambda value: ascii(value[:50]))
def test_a_mistake_is_reported_with_its_place_and_the_likely_fix(text: str, expected: str) -> None:
    messages = lines(text)
    assert any(expected in line for line in messages), messages
    assert all(line.startswith("g.yaml:") for line in messages)


@each(
    ("data", "expected"),
    [
        (b"a: \xff", "g.yaml:1:4: not UTF-8 text (byte 0xff)"),
        ("models:\n  é: ".encode() + b"\xe9", "g.yaml:2:6: not UTF-8 text (byte 0xe9)"),
        (b"a: 1\nb: \x00", "g.yaml:2:4: the character U+0000 is not allowed in YAML"),
        (b"\x1b[31m", "g.yaml:1:1: the character U+001B is not allowed in YAML"),
        (b"\xff\xfea\x00", "g.yaml:1:1: not UTF-8 text (byte 0xff)"),
    ],
)
def test_invalid_bytes_are_reported_with_their_place(data: bytes, expected: str) -> None:
    assert lines(data) == [expected]


def test_an_alias_bomb_is_refused_before_it_expands() -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "aliases expand to more than 50000 values" in lines("\n".join(bomb))[0]


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = f"""
lisen: x
providers:
  openai: {{ api_key: "${{MISSING}}", timeout: 5 }}
  gpu: {{ type: vlm }}
models:
  smart: [opnai/x, gpu/y]
  fast: {{ targets: smrt, retrys: 1 }}
keys:
  k: {{ hash: "{HASH}", models: [fats], expires: soon }}
"""
    places = [(int(line.split(":")[1]), line.split(": ")[1]) for line in lines(text)]
    assert places == [
        (2, "lisen"),
        (4, "providers.openai.api_key"),
        (4, "providers.openai.timeout"),
        (5, "providers.gpu.type"),
        (7, "models.smart[0]"),
        (8, "models.fast.targets"),
        (8, "models.fast.retrys"),
        (10, "keys.k.models[0]"),
        (10, "keys.k.expires"),
    ]


def test_only_the_first_fifty_mistakes_are_printed() -> None:
    messages = lines("".join(f"x{n}: 1\n" for n in range(60)))
    assert len(messages) == 51
    assert messages[-1] == "g.yaml: and 10 more problems"


def test_a_long_chain_of_models_is_refused() -> None:
    chain = LOCAL + "models:\n  m0: local/x\n" + "".join(f"  m{n}: m{n - 1}\n" for n in range(1, 5000))
    assert all("the route leads through more than 16 models" in line for line in lines(chain)[:50])
    reverse = LOCAL + "models:\n" + "".join(f"  m{n}: m{n + 1}\n" for n in range(5000)) + "  m5000: local/x\n"
    assert "the route leads through more than 16 models" in lines(reverse)[0]


def test_a_chain_of_sixteen_models_is_accepted() -> None:
    chain = LOCAL + "models:\n  m0: local/x\n" + "".join(f"  m{n}: m{n - 1}\n" for n in range(1, 16))
    assert len(config.parse(chain.encode(), "g.yaml", environ={}).models) == 16


def test_a_model_with_more_than_a_thousand_targets_is_refused() -> None:
    bomb = LOCAL + "models:\n  m0: local/x\n" + "".join(f"  m{n}: [{', '.join([f'm{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "the route leads to more than 1000 targets" in lines(bomb)[0]


def test_unprintable_names_are_escaped() -> None:
    assert lines('"a\\e[31m\\nb": 1')[0].startswith("g.yaml:1:1: a\\x1b[31m\\nb: unknown key")
    assert lines(LOCAL + 'models: {m: "x\\ny"}') == [r"g.yaml:2:13: models.m: no model 'x\ny' in this file; models: m"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nothing.yaml", "no such file"), (".", "is a directory, not a file"), ("nothing/x.yaml", "no such file")],
)
def test_an_unreadable_file_is_reported(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(f"{tmp_path}/{name}")
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_certificate_and_a_key_that_do_not_match_are_refused(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    one, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    one.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    for name, content, expected in [
        ("key.pem", other.private_key_pem.bytes(), "cert and key cannot be loaded: KEY_VALUES_MISMATCH"),
        ("key.pem", b"nonsense", "cert and key cannot be loaded"),
    ]:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        with pytest.raises(ConfigError) as caught:
            config.parse(b"tls: {cert: cert.pem, key: key.pem}", str(tmp_path / "g.yaml"), environ={})
        assert f"{tmp_path}/g.yaml:1:6: tls: {expected}" in str(caught.value)
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match=r"1:28: tls.key: 'key.pem' is world-readable: run chmod 600 'key.pem'"):
        config.parse(b"tls: {cert: cert.pem, key: key.pem}", str(tmp_path / "g.yaml"), environ={})


@each(
    "text",
    [
        "providers: {local: {timeout: 5s}}",
        "providers: {local: {timeout: 5s, first_byte_timeout: 5s}}",
        LOCAL + "models: {m: {targets: local/x, timeout: 5s}}",
        LOCAL + "models: {m: {targets: local/x, first_byte_timeout: 10m, retries: 2}}",
        LOCAL + "models: {m: {targets: local/x, retries: 9, attempts: 10}}",
    ],
)
def test_a_timeout_may_be_shorter_than_the_default_of_a_partial_timeout(text: str) -> None:
    config.parse(text.encode(), "g.yaml", environ={})
