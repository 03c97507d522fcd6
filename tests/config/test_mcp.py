"""`mcp` in the YAML: the settings that are read, and refusals with their places and likely fixes."""

from __future__ import annotations

from gateway.config.load import ConfigError, parse
from gateway.config.mcp import STDIO_REFUSED, McpConfig
from tests.support.each import each

URL = "https://tools.example.com/mcp"
HASH = "sha256:" + "a7" * 32


def problems(text: str) -> list[str]:
    """Return the problems of a configuration as `LINE: PATH: MESSAGE`."""
    try:
        parse(text.encode(), "g.yaml", environ={"K": "secret"})
    except ConfigError as error:
        return [f"{problem.line}: {problem.path}: {problem.message}" for problem in error.problems]
    return []


def test_server_is_written_with_its_address_or_with_settings() -> None:
    text = f'mcp:\n  a: {URL}\n  b: {{ url: {URL}, api_key: "${{K}}", tools: [x, "y*"], timeout: 5s }}\n'
    config = parse(text.encode(), "g.yaml", environ={"K": "s"})
    assert config.mcp["a"] == McpConfig("a", URL)
    server = config.mcp["b"]
    assert (server.tools, server.timeout, server.pattern) == (("x", "y*"), 5.0, "/mcp/b")
    provider = server.as_provider()
    assert (provider.base_url, provider.first_byte_timeout, provider.api_key[0].reveal()) == (URL, 5.0, "s")


@each("entry, message", [
    ("{ command: npx, args: [x] }", f"2: mcp.a.command: {STDIO_REFUSED}"),
    ("{ type: stdio, command: npx }", f"2: mcp.a.type: {STDIO_REFUSED}"),
    (f"{{ url: {URL}, tool: [x] }}", "2: mcp.a.tool: unknown key"),
    (f"{{ url: {URL}, tools: [] }}", "2: mcp.a.tools: allows no tool"),
    (f'{{ url: {URL}, api_key: ["${{K}}", "${{K}}"] }}', "2: mcp.a.api_key: an MCP server has one credential"),
    ("{ url: ftp://x }", "2: mcp.a.url: expected"),
    ("{}", "2: mcp.a"),
])  # fmt: skip
def test_bad_server_is_reported_at_its_line(entry: str, message: str) -> None:
    found = problems(f"mcp:\n  a: {entry}\n")
    assert any(each.startswith(message) for each in found), found


@each("text, message", [
    (f"mcp:\n  a/b: {URL}\n", "the name is a part of the path"),
    (f"mcp:\n  a: {URL}\nproviders:\n  mcp: {{ type: openai, api_key: '${{K}}' }}\n", "this name is reserved"),
    (f"mcp:\n  a: {URL}\nproviders:\n  openai: {{ api_key: '${{K}}' }}\npassthrough:\n  /mcp/*: {{ provider: openai, path: /x/* }}\n",
     "covers /mcp/a, the path of an MCP server"),
    (f"mcp:\n  a: {URL}\nkeys:\n  k: {{ hash: '{HASH}', passthrough: [/mcp/b] }}\n", "no pattern '/mcp/b' under passthrough"),
])  # fmt: skip
def test_names_that_collide_are_refused(text: str, message: str) -> None:
    found = problems(text)
    assert any(message in each for each in found), found


def test_keys_name_servers_by_their_paths() -> None:
    assert problems(f"mcp:\n  a: {URL}\nkeys:\n  k: {{ hash: '{HASH}', passthrough: [/mcp/a] }}\n") == []
    assert problems(f"mcp:\n  a: {URL}\nkeys:\n  k: {{ hash: '{HASH}', passthrough: [/mcp/*] }}\n") == []
