"""`lockgate explain`: show the upstream requests that a request body would cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import config_option
from gateway.commands.output import print_json, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command(short_help="Show the upstream requests that a request would cause.")
@click.argument("file", type=click.Path(allow_dash=True))
@config_option
@click.option("--strict", is_flag=True, help="Plan as if the caller had sent x-gateway-strict: true.")
@click.option("--table", "as_table", is_flag=True, help="Print a text table instead of JSON.")
def explain(file: str, config_path: str | None, strict: bool, as_table: bool) -> None:
    """Show the plan for the request body in FILE (- is stdin) as JSON, without calling any upstream.

    \b
    lockgate explain request.json
    lockgate explain --strict --table request.json
    """
    from gateway.explain.table import table

    headers = {"x-gateway-strict": "true"} if strict else {}
    plan = explain_file(config_path, read_file(file), headers)
    if as_table:
        click.echo(table(plan))
    else:
        print_json(plan)
    if "error" in plan:
        click.get_current_context().exit(1)


def explain_file(config_path: str | None, source: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the plan according to a configuration file, or the error response that a caller would get."""
    import msgspec

    from gateway.commands.dry_run import dry_run_generation
    from gateway.errors import GatewayError
    from gateway.explain.request import explain as explain_request

    generation = dry_run_generation(config_path)
    try:
        fit = generation.pipeline.failover.fit
        return explain_request(generation.router, generation.config, fit, source, headers)
    except GatewayError as error:
        decoded: dict[str, Any] = msgspec.json.decode(error.as_body())
        return {"status": error.status, **decoded}
