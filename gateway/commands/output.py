"""JSON output, file arguments and the installed version, shared by the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.config.load import Config
    from gateway.config.problem import Problems


def print_json(value: Any) -> None:
    """Print a value as indented JSON. Characters that control a terminal are escaped."""
    import msgspec

    click.echo(_escaped(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def _escaped(text: str) -> str:
    """Write the characters of a JSON document that are not printable as escapes of JSON."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(letter if letter == "\n" or letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def printable(text: str) -> str:
    """Replace characters that a terminal cannot show, or that control it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def url_part(text: str) -> str:
    """Return an argument of the command line as a part of a URL. The argument may contain bytes that are not UTF-8."""
    from urllib.parse import quote

    return quote(text, safe="", errors="surrogateescape")


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
