"""`lockgate openapi`: print the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gateway.openapi.document import Listener


@click.command(short_help="Print the OpenAPI document.")
@click.option(
    "--listener",
    type=click.Choice(["all", "callers", "admin"]),
    default="all",
    help="Print the paths of one listener only.",
)
def openapi(listener: Listener) -> None:
    """Print the OpenAPI 3.1 document of the callers' APIs and of the admin API.

    \b
    lockgate openapi > openapi.json
    lockgate openapi --listener callers
    """
    from gateway.commands.output import print_json
    from gateway.openapi.document import document

    print_json(document(listener))
