"""Checks that the optional packages that a configuration requires are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from gateway.config.problem import Problems, join
from gateway.config.types import Config

EXTRAS = {
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "tokenizers": ("tokenizers",),
    "jwt": ("jwt", "cryptography"),
    "patterns": ("re2",),
    "local": ("xllamacpp",),
}
"""The modules that each extra installs."""


def check_extras(config: Config, problems: Problems, is_installed: Callable[[str], bool] | None = None) -> None:
    """Refuse settings that require an extra whose packages are missing."""
    used = [("traces", "otel")] if config.traces is not None else []
    used += [("issuers", "jwt")] if config.issuers else []
    used += [
        (f"{join('models', name)}.context.tokenizer", "tokenizers")
        for name, model in config.models.items()
        if model.context is not None and model.context.tokenizer
    ]
    for path, extra in used:
        if not all(map(is_installed or _is_installed, EXTRAS[extra])):
            problems.add_at_path(path, f"requires packages that are not installed: {install_command(extra)}")


def missing_engine(config: Config, is_installed: Callable[[str], bool] | None = None) -> list[str]:
    """Return a warning if a provider needs the embedded engine and it is not installed. The gateway then serves its other targets."""
    names = [name for name, provider in config.providers.items() if provider.type == "local"]
    if not names or all(map(is_installed or _is_installed, EXTRAS["local"])):
        return []
    return [f"the engine of {join('providers', names[0])} is not installed: {install_command('local')}"]


def install_command(extra: str) -> str:
    """Return the instruction to install an extra. The package is not published, so it is installed from the checkout."""
    return f'run pip install ".[{extra}]" in the checkout of Lockgate (docs/installation.md)'


def has_extra(extra: str) -> bool:
    """Return whether the packages of an extra are installed."""
    return all(map(_is_installed, EXTRAS[extra]))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is not installed
        return False
