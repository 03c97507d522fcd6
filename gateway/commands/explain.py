"""`lockgate explain`: show the upstream requests that a request body would cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import config_option
from gateway.commands.output import print_json, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

CHAT_PATH = "/v1/chat/completions"

@click.command(short_help="Show the upstream requests that a request would cause.")
@click.argument("file", type=click.Path(allow_dash=True))
@config_option
@click.option("--strict", is_flag=True, help="Plan as if the caller had sent x-gateway-strict: true.")
@click.option("--table", "as_table", is_flag=True, help="Print a text table instead of JSON.")
@click.option("--path", default=CHAT_PATH, show_default=True, help="The path to which the request would be sent.")
@click.option("--header", "-H", multiple=True, metavar="NAME:VALUE", help="A request header of the caller; may be repeated.")
def explain(file: str, config_path: str | None, strict: bool, as_table: bool, path: str, header: tuple[str, ...]) -> None:
    """Show the plan for the request body in FILE (- is stdin) as JSON, without calling any upstream.

    \b
    lockgate explain request.json
    lockgate explain --strict --table request.json
    lockgate explain --path /v1/embeddings request.json
    lockgate explain --header 'anthropic-beta: context-1m-2025-08-07' request.json
    """
    from gateway.explain.text import request_text

    headers = [_header(line) for line in header] + ([(b"x-gateway-strict", b"true")] if strict else [])
    source = read_file(file)
    plan = explain_file(config_path, source, headers, path)
    if (advice := hint_for(source, path)) is not None:
        click.echo(f"Hint: {advice}", err=True)
    if as_table:
        click.echo(request_text(plan))
    else:
        print_json(plan)
    if "error" in plan:
        click.get_current_context().exit(1)


def _header(line: str) -> tuple[bytes, bytes]:
    """Return the name and value of a header. Raise BadParameter if the line is not NAME:VALUE."""
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"expected NAME:VALUE, got {line!r}", param_hint="--header")
    return name.strip().lower().encode(), value.strip().encode()


def hint_for(source: bytes, path: str) -> str | None:
    """Return the advice to add --path if the body belongs to another API than the path does, else None."""
    import msgspec

    from gateway.explain.path_hint import hint

    try:
        return hint(msgspec.json.decode(source), path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def explain_file(config_path: str | None, source: bytes, headers: Sequence[tuple[bytes, bytes]], path: str = CHAT_PATH) -> dict[str, Any]:
    """Return the plan according to a configuration file, or the error response that a caller would get."""
    import asyncio

    import msgspec

    from gateway.commands.dry_run import dry_run_generation
    from gateway.dialects.table import DIALECTS, call_paths, deployment_api
    from gateway.errors import GatewayError
    from gateway.explain.path_hint import unknown_path
    from gateway.explain.request import explain as explain_request

    dialects = call_paths(DIALECTS)
    dialect = dialects.get(path) or deployment_api(path)
    if dialect is None:
        raise click.BadParameter(unknown_path(path, dialects), param_hint="--path")
    generation = dry_run_generation(config_path)
    try:
        generation.pipeline.failover.fit.engines_run = False
        trace = generation.pipeline.begin_trace(headers)
        return asyncio.run(explain_request(generation.dry_run(), source, headers, trace=trace, dialect=dialect, path=path))
    except GatewayError as error:
        decoded: dict[str, Any] = msgspec.json.decode(error.as_body())
        return {"status": error.status, **decoded}
