"""JSON output, file arguments and the installed version, shared by the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.config.load import Config
    from gateway.config.problem import Problems


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_absent(absent: Problems) -> None:
    """Print the variables that are not set and the files that do not exist, one per line."""
    for one in absent.in_order:
        click.echo(f"{one} {click.style('(allowed)', fg='yellow')}")


def load_config(path: str | None) -> Config:
    """Load the configuration at `path`, or the default one."""
    from gateway.config import load as config

    return config.load(path or config.find_config_path())


def read_file(file: str) -> bytes:
    """Return the content of a file; `-` is stdin. An unreadable file is a usage error."""
    try:
        with click.open_file(file, "rb") as source:
            return bytes(source.read())
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror or error}") from None


def installed_version() -> str:
    """Return the version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lockgate")
    except PackageNotFoundError:
        return "(not installed)"
