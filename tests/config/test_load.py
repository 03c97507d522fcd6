"""Loading: types, defaults, routes, variables, overrides of the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import load as config
from gateway.config.load import BUILT_IN, Address, Config, ConfigError, ModelConfig, Order, Ref, Split
from gateway.config.types import matching_wildcard
from gateway.upstream.transport import Deadlines
from tests.support.each import each

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "config" / "examples").glob("*.yaml"))
HASH = "sha256:" + "ab" * 32


def parse(text: str, environ: dict[str, str] | None = None) -> Config:
    """Return the configuration of a YAML text."""
    return config.parse(text.encode(), "gateway.yaml", environ=environ or {})


def model(text: str) -> ModelConfig:
    """Return the model `m` of a file with some providers."""
    return parse(f"providers: {{local: {{}}, a: {{type: vllm}}}}\nmodels:\n  other: local/x\n  m: {text}\n").models["m"]


def test_the_built_in_configuration_is_the_shipped_one() -> None:
    shipped = config.load(ROOT / "config" / "gateway.yaml", environ={})
    built_in = config.load(BUILT_IN, environ={})
    assert shipped.models == built_in.models
    assert shipped.providers == built_in.providers
    assert (shipped.listen, shipped.admin, shipped.store) == (built_in.listen, built_in.admin, "memory://")
    assert built_in.models["local"].targets == Ref("local", "smollm2-135m-instruct")
    assert built_in.models["*"].targets == Ref(None, "local")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads(example: Path, tmp_path: Path, tls_files: tuple[bytes, bytes]) -> None:
    folder = tmp_path / "config"
    files = {"tls/cert.pem": tls_files[0], "tls/key.pem": tls_files[1], "secrets/mirror": b"s\n", "secrets/ca.pem": b""}
    files |= {"secrets/openai": b"sk-x\n", "secrets/store-password": b"p\n"}
    files |= {f"secrets/{name}.sha256": f"sha256:{digit * 64}\n".encode() for name, digit in (("admin-key", "a"), ("app-key", "b"))}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    copy = folder / example.name
    copy.write_bytes(example.read_bytes())
    environ = dict.fromkeys(["OPENAI_API_KEY", "OPENAI_API_KEY_2", "GROQ_API_KEY", "REDIS_PASSWORD", "GUARD_TOKEN"], "x")
    environ["NOTIFY_WEBHOOK"] = "https://hooks.example.com/services/1"
    found = config.load(copy, environ={**environ, "ADMIN_KEY_HASH": HASH, "APP_KEY_HASH": "sha256:" + "cd" * 32})
    assert found.models
    assert found.path == str(copy)


@pytest.fixture(scope="module")
def tls_files() -> tuple[bytes, bytes]:
    """Return a certificate chain and its private key as PEM."""
    import trustme

    issued = trustme.CA().issue_cert("localhost")
    return b"".join(part.bytes() for part in issued.cert_chain_pems), issued.private_key_pem.bytes()


def test_missing_keys_have_the_documented_defaults() -> None:
    found = parse("models: {}")
    assert (found.listen, found.admin.listen) == (Address("127.0.0.1", 8080), Address("127.0.0.1", 8081))
    assert (found.store, found.auth, found.max_body, found.cors, found.tls) == ("memory://", "auto", 32 << 20, (), None)
    assert (found.expose_targets, found.strict, found.trusted_proxies, found.keys) == (False, False, (), {})
    assert (found.admin.metrics, found.admin.key_hash) == ("keyed", None)


def test_default_timeouts_of_a_provider_are_those_of_the_transport() -> None:
    local = parse("providers: {local: {}}").providers["local"]
    named = Deadlines(local.connect, local.tls, local.first_byte_timeout, local.idle_timeout, local.timeout)
    assert named == Deadlines()


def test_the_type_of_a_provider_is_its_name_unless_set() -> None:
    found = parse("providers:\n  ollama:\n  gpu: {type: vllm, base_url: http://gpu:8000/v1/}\n").providers
    assert (found["ollama"].type, found["gpu"].type) == ("ollama", "vllm")
    assert found["gpu"].base_url == "http://gpu:8000/v1"


def test_every_common_setting_of_a_provider_is_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    text = """
providers:
  x:
    type: openai-compatible
    base_url: https://x.example/v1
    api_key: ["${A}", "${B:-two}"]
    ca: ca.pem
    proxy: http://user:${PASSWORD}@proxy:3128
    transport: httpx
    headers: { x-team: search, x-secret: "${A}" }
    connect: 500ms
    tls: 1s
    first_byte_timeout: 1m30s
    idle_timeout: 2m
    timeout: 1h
    max_connections: ${MAX}
"""
    environ = {"A": "one", "PASSWORD": "pw", "MAX": "7"}
    found = config.parse(text.encode(), str(tmp_path / "g.yaml"), environ=environ).providers["x"]
    assert [key.reveal() for key in found.api_key] == ["one", "two"]
    assert (found.ca, found.proxy, found.transport) == (str(tmp_path / "ca.pem"), "http://user:pw@proxy:3128", "httpx")
    assert {name: value.reveal() for name, value in found.headers.items()} == {"x-team": "search", "x-secret": "one"}
    assert (found.connect, found.tls, found.first_byte_timeout, found.idle_timeout, found.timeout) == (0.5, 1, 90, 120, 3600)
    assert found.max_connections == 7


def test_keys_of_a_provider_type_become_options_with_defaults() -> None:
    options = parse("providers: {local: {slots: 2}}").providers["local"].options
    assert (options["slots"], options["model"], options["context"]) == (2, None, 2048)
    assert parse("providers: {ollama: {max_fanout: 3}}").providers["ollama"].options == {"max_fanout": 3}


@each(
    ("written", "route"),
    [
        ("local/x", Ref("local", "x")),
        ("other", Ref(None, "other")),
        ("a/meta-llama/Llama-3", Ref("a", "meta-llama/Llama-3")),
        ("[local/x, other]", Order((Ref("local", "x"), Ref(None, "other")))),
        ("{local/x: 3, other: 1}", Split(((Ref("local", "x"), 3), (Ref(None, "other"), 1)))),
        ("{local/x: 0.5, a/y: 0}", Split(((Ref("local", "x"), 0.5), (Ref("a", "y"), 0)))),
        ("[{local/x: 1, a/y: 1}, other]", Order((Split(((Ref("local", "x"), 1), (Ref("a", "y"), 1))), Ref(None, "other")))),
        ("{targets: local/x}", Ref("local", "x")),
        ("{targets: [local/x]}", Order((Ref("local", "x"),))),
        ("{targets: {local/x: 1}}", Split(((Ref("local", "x"), 1),))),
    ],
)
def test_a_list_is_an_order_and_a_mapping_is_a_split(written: str, route: config.Route) -> None:
    assert model(written).targets == route


def test_settings_of_a_model_are_next_to_its_targets() -> None:
    found = model("{targets: local/x, timeout: 60s, first_byte_timeout: 1s, idle_timeout: 2s, retries: 0, strict: true}")
    assert (found.timeout, found.first_byte_timeout, found.idle_timeout, found.retries, found.strict) == (60, 1, 2, 0, True)
    assert (model("local/x").timeout, model("local/x").retries, model("local/x").strict) == (None, None, None)


def test_the_longest_matching_prefix_wins() -> None:
    names = {name: matching_wildcard(name, ["a", "a*", "ab*", "*"]) for name in ("ax", "abc", "z")}
    assert names == {"ax": "a*", "abc": "ab*", "z": "*"}
    assert matching_wildcard("b", ["a", "a*"]) is None


def test_all_settings_of_a_key_are_read() -> None:
    text = f"""
providers: {{local: {{}}}}
models: {{small: local/x, "big-*": local/y}}
keys:
  team: {{hash: "{HASH.upper().replace("SHA", "sha")}", models: [small, big-1], expires: 2027-01-31, strict: true}}
  late: {{hash: "sha256:{"cd" * 32}", expires: 2027-01-31T12:00:00+02:00, disabled: true}}
"""
    keys = parse(text).keys
    assert (keys["team"].hash, keys["team"].models, keys["team"].strict) == (HASH, ("small", "big-1"), True)
    assert keys["team"].expires == datetime(2027, 2, 1, tzinfo=UTC)
    assert (keys["late"].expires, keys["late"].disabled, keys["late"].models) == (datetime(2027, 1, 31, 10, tzinfo=UTC), True, None)


@each(
    ("written", "address", "loopback"),
    [
        ("127.0.0.1:1", Address("127.0.0.1", 1), True),
        ("localhost:0", Address("localhost", 0), True),
        ("'[::1]:8080'", Address("::1", 8080), True),
        ("127.9.9.9:65535", Address("127.9.9.9", 65535), True),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),
        ("'[::]:80'", Address("::", 80), False),
        ("gateway.internal:80", Address("gateway.internal", 80), False),
    ],
)
def test_a_listener_is_host_and_port(written: str, address: Address, loopback: bool) -> None:
    found = parse(f"listen: {written}\nauth: none").listen
    assert found == address
    assert found.is_loopback is loopback


def test_admin_is_an_address_or_a_mapping() -> None:
    assert parse("admin: 127.0.0.1:9").admin == config.AdminConfig(Address("127.0.0.1", 9))
    found = parse(f"admin: {{listen: 0.0.0.0:9, key_hash: '{HASH}', metrics: open}}").admin
    assert found == config.AdminConfig(Address("0.0.0.0", 9), HASH, "open")


@each(
    ("written", "size"), [("32MiB", 32 << 20), ("1.5 KiB", 1536), ("10MB", 10_000_000), ("1000", 1000), ("'1000'", 1000)]
)
def test_sizes_are_read(written: str, size: int) -> None:
    assert parse(f"max_body: {written}").max_body == size


def test_lists_of_origins_and_proxies_are_read() -> None:
    found = parse("cors: [https://App.example:8443, '*']\ntrusted_proxies: [10.1.2.3/8, '::1']")
    assert found.cors == ("https://app.example:8443", "*")
    assert found.trusted_proxies == ("10.0.0.0/8", "::1/128")


@each(
    "url",
    ["memory://", "redis://redis:6379/0", "rediss://h", "redis+sentinel://a:1,b:2/mymaster/0", "redis+cluster://a:1,[::1]:2"],
)
def test_every_kind_of_store_is_accepted(url: str) -> None:
    assert parse(f"store: {url}").store == url


def test_merge_keys_and_anchors_share_settings() -> None:
    text = "providers:\n  a: &a {type: vllm, base_url: 'http://a', timeout: 5s}\n  b: {<<: *a, base_url: 'http://b'}\n"
    found = parse(text).providers
    assert (found["b"].type, found["b"].base_url, found["b"].timeout) == ("vllm", "http://b", 5)


def test_variables_work_in_every_value_and_can_be_escaped() -> None:
    text = 'listen: "${HOST:-127.0.0.1}:${PORT}"\nstrict: ${STRICT}\nproviders: {local: {}}\nmodels: {m: "${P:-local}/$${x}"}\n'
    found = parse(text, {"PORT": "81", "STRICT": "true", "P": ""})
    assert (found.listen, found.strict) == (Address("127.0.0.1", 81), True)
    assert found.models["m"].targets == Ref("local", "${x}")


def test_names_that_yaml_would_convert_stay_text() -> None:
    found = parse("providers: {local: {}}\nmodels: {no: local/1e3, 4: local/0x10, 2020-01-01: no, y: [4]}")
    assert found.models["no"].targets == Ref("local", "1e3")
    assert found.models["y"].targets == Order((Ref(None, "4"),))
    assert found.models["2020-01-01"].targets == Ref(None, "no")


def test_the_command_line_overrides_the_file() -> None:
    found = config.load(BUILT_IN, overrides=config.Overrides(host="::1", port=1, admin_port=2, grace=3.0, drain=4.0), environ={})
    assert (found.listen, found.admin.listen) == (Address("::1", 1), Address("127.0.0.1", 2))
    assert (found.grace, found.drain) == (3.0, 4.0)


def test_a_public_listener_without_keys_is_refused_on_the_command_line_too() -> None:
    with pytest.raises(ConfigError, match="is reachable from other machines and there are no keys"):
        config.load(BUILT_IN, overrides=config.Overrides(host="0.0.0.0"), environ={})


def test_the_config_path_is_the_environments_then_the_folders_then_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.find_config_path({}) == BUILT_IN
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text("models: {}")
    assert config.find_config_path({}) == "config/gateway.yaml"
    assert config.find_config_path({"LOCKGATE_CONFIG": "other.yaml"}) == "other.yaml"


def test_a_byte_order_mark_is_accepted() -> None:
    assert config.parse("\ufeffstrict: true".encode(), "x", environ={}).strict
