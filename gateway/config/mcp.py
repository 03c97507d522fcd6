"""Settings of `mcp:`: servers of the Model Context Protocol that callers reach through the gateway."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from gateway.config.field_types import Duration, File, Header, Name, Secrets, Size
from gateway.config.problem import Problems, join
from gateway.config.provider import ProviderConfig

MCP_PROVIDER = "mcp"
"""The provider's part of the target names of MCP servers: `mcp/NAME`."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STDIO_KEYS = frozenset({"args", "command", "cwd", "env", "stdio", "transport", "type"})
STDIO_REFUSED = (
    "the gateway starts no programs, so MCP servers over stdio are not supported: run the server with the transport streamable "
    "HTTP, and set url to its address"
)


class McpConfig(Struct, frozen=True):
    """An MCP server with the transport streamable HTTP. Callers reach the server at `/mcp/NAME`."""

    name: Name
    url: Annotated[
        Annotated[str, Meta(extra={"form": "base_url"})],
        Meta(description="Address of the server's MCP endpoint.", examples=["https://tools.example.com/mcp"]),
    ]
    api_key: Annotated[
        Secrets,
        Meta(
            description="Credential for the server, sent as a bearer token: `${NAME}` or `file:PATH`. The keys of callers are never sent.",
            examples=["${TOOLS_TOKEN}"],
        ),
    ] = ()
    headers: Annotated[
        dict[str, Header],
        Meta(description="Additional request headers.", examples=[{"x-tenant": "search"}]),
    ] = {}
    tools: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...] | None,
        Meta(
            description="Tools that callers can see and call. A name may end in `*`. Default: all tools.",
            examples=[["search_*", "get_issue"]],
        ),
    ] = None
    timeout: Annotated[
        Duration,
        Meta(
            description="Maximum time from sending a request to the end of a JSON answer, or to the head of an event stream. The time in "
            "which the caller reads the answer does not count.",
            examples=["2m"],
        ),
    ] = 60.0
    idle_timeout: Annotated[
        Duration,
        Meta(
            description="Maximum pause within a response. Comments and events without data, which servers send to keep a stream open, "
            "end a pause.",
            examples=["10m"],
        ),
    ] = 300.0
    listen_idle_timeout: Annotated[
        Duration,
        Meta(
            description="Maximum pause within a stream of the server's own messages, which a caller opens with GET or "
            "`subscriptions/listen`. Set this to a few intervals of the server's comments if the server sends comments.",
            examples=["1m"],
        ),
    ] = 24 * 3600.0
    total_timeout: Annotated[
        Duration,
        Meta(description="Maximum time for a call, including its stream, even if data still arrives.", examples=["15m"]),
    ] = 24 * 3600.0
    max_body: Annotated[Size, Meta(description="Maximum size of a request body.", examples=["1MiB"])] = 4 << 20
    ca: Annotated[
        File | None,
        Meta(
            description="PEM file with certificate authorities to trust in addition to those of the system.",
            examples=["/etc/ssl/company-ca.pem"],
        ),
    ] = None

    @property
    def pattern(self) -> str:
        """The path of the server at the gateway."""
        return f"/mcp/{self.name}"

    def as_provider(self) -> ProviderConfig:
        """Return the server as a provider, whose `base_url` is the address of the endpoint."""
        return ProviderConfig(
            name=MCP_PROVIDER,
            type="openai-compatible",
            base_url=self.url,
            api_key=self.api_key,
            headers=self.headers,
            ca=self.ca,
            first_byte_timeout=self.timeout,
            idle_timeout=self.idle_timeout,
        )


def undeclared_server(path: str) -> str:
    """Return advice for a path that could be meant for an MCP server, or "" if it could not."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first != "mcp":
        return ""
    name = rest.partition("/")[0]
    example = name if NAME.fullmatch(name) else "NAME"
    return f"An MCP server has the path /mcp/NAME. Declare the server in the gateway's configuration: mcp: {{ {example}: ADDRESS }}."


def check_server(entry: McpConfig, problems: Problems) -> None:
    """Refuse a name that does not fit into a path, several credentials, and an empty list of tools."""
    where = join("mcp", entry.name)
    if NAME.fullmatch(entry.name) is None:
        text = "the name is a part of the path: use at most 64 letters, digits and . _ -, beginning with a letter or digit"
        problems.add_at_path(where, text)
    if len(entry.api_key) > 1:
        problems.add_at_path(f"{where}.api_key", "an MCP server has one credential, because its sessions belong to it: remove the others")
    if entry.tools is not None and not entry.tools:
        problems.add_at_path(f"{where}.tools", "allows no tool: list the names of tools, or remove tools to allow all")
