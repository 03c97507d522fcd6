"""Loads the YAML as one frozen Config. Each generation has its own Config.

`load` returns a valid Config, or raises one ConfigError with all problems.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gateway.config import pem, yamlfile
from gateway.config.catalog_file import with_overlay
from gateway.config.check import check_client_certificates, check_keys, check_limits, check_listeners, check_store, check_tls
from gateway.config.entry import ModelReader, ProviderReader
from gateway.config.extras import check_extras
from gateway.config.files import Files
from gateway.config.formats import Address
from gateway.config.hook_check import check_hooks
from gateway.config.issuer_check import check_issuers, with_key_sets
from gateway.config.key import KeyConfig
from gateway.config.listener import AdminConfig, TlsConfig
from gateway.config.model import ModelConfig
from gateway.config.notify_check import check_notify
from gateway.config.passthrough_check import check_mcp, check_passthrough
from gateway.config.problem import ConfigError, Problem, Problems
from gateway.config.provider import ProviderConfig
from gateway.config.provider_check import check_providers
from gateway.config.read import Reader
from gateway.config.route import Order, Ref, Route, RouteReader, Split, refs
from gateway.config.route_check import check_routes
from gateway.config.secret import Secret
from gateway.config.struct_types import struct_type
from gateway.config.tags_check import check_tags
from gateway.config.types import Config

BUILT_IN = "(built-in)"
"""The path of the configuration that is used if there is no file."""

BUILT_IN_YAML = b"""\
store: memory://
providers:
  local: {}
models:
  local: local/smollm2-135m-instruct
  "*": local
"""

DEFAULT_PATHS = ("config/gateway.yaml", "gateway.yaml")
"""The files, relative to the working directory, of which the first that exists is used without --config and LOCKGATE_CONFIG.

`lockgate init` writes the second one.
"""


def find_config_path(environ: Mapping[str, str] = os.environ) -> str:
    """Return LOCKGATE_CONFIG, else the first of DEFAULT_PATHS that exists, else BUILT_IN."""
    path = environ.get("LOCKGATE_CONFIG")
    return path or next((path for path in DEFAULT_PATHS if Path(path).exists()), BUILT_IN)


CHECKS = (
    check_listeners, check_keys, check_issuers, check_store, check_limits, check_tags, check_providers, check_routes, check_passthrough,
    check_mcp,
    check_extras, check_client_certificates, check_notify, check_hooks,
)  # fmt: skip
"""The checks that run after a configuration has been read. `check_tls`, which also needs its files, runs last."""


class Overrides(msgspec.Struct, frozen=True):
    """Command line settings that override those in the file. None keeps the setting in the file."""

    host: str | None = None
    port: int | None = None
    admin_port: int | None = None
    grace: float | None = None
    drain: float | None = None


NO_OVERRIDES = Overrides()


def load(
    path: str | Path,
    *,
    overrides: Overrides = NO_OVERRIDES,
    environ: Mapping[str, str] = os.environ,
    files: Files | None = None,
    absent: Problems | None = None,
) -> Config:
    """Return the configuration in a file (or in BUILT_IN), as `parse` does. Raise ConfigError if it is unreadable or invalid."""
    return parse(read_config_bytes(path), str(path), overrides=overrides, environ=environ, files=files, absent=absent)


def parse(
    data: bytes,
    path: str,
    *,
    overrides: Overrides = NO_OVERRIDES,
    environ: Mapping[str, str] = os.environ,
    files: Files | None = None,
    absent: Problems | None = None,
) -> Config:
    """Return the configuration in a YAML text. Raise ConfigError if it is invalid.

    `path` is used in messages, and relative file names are resolved against its folder.

    `files` supplies and records the files that the YAML refers to. Variables that are not set and files that do not exist
    are added to `absent` if it is given. The Config is then usable only for comparisons, because the keys that use those
    variables or files are missing or have substitutes.
    """
    problems = Problems(path)
    try:
        root = yamlfile.parse(data)
    except yamlfile.YamlError as error:
        raise ConfigError([Problem(path, error.place.line, error.place.column, "", error.message)]) from None
    reader = Reader(problems, environ, Path(path).absolute().parent, files, absent)
    routes = RouteReader(problems, reader.text)
    reader.special = {ProviderConfig: ProviderReader(reader).read, ModelConfig: ModelReader(reader, routes).read}
    config = reader.read(root, struct_type(Config), "")
    reader.special, reader.read_ref = {}, None  # a cycle would keep the whole tree in memory until a garbage collection
    if isinstance(config, Config):
        config = with_overlay(_apply_overrides(replace(config, path=path), overrides), reader.files, problems)
        config = with_key_sets(config, reader.files, problems)
        routes.check_names(_names(root, "providers"), _names(root, "models"))
        routes.check_models(config.providers)
        for check in CHECKS:
            _run_check(check, config, problems, absent)
        _run_check(partial(check_tls, files=reader.files), config, problems, absent)
    problems.raise_if_any()
    assert isinstance(config, Config)
    return config if config.tls is None or absent is not None else replace(config, tls=pem.read_certificate(config.tls, reader.files))


def _run_check(check: Callable[[Config, Problems], None], config: Config, problems: Problems, absent: Problems | None) -> None:
    """Run one check.

    Ignore a TypeError or AttributeError if a problem or an absent value was reported, because that may be the cause of the error.
    """
    try:
        check(config, problems)
    except (TypeError, AttributeError):
        if not len(problems) and not len(absent or ()):
            raise


def read_config_bytes(path: str | Path) -> bytes:
    """Return the content of a file (or of BUILT_IN), at most one byte more than allowed.

    Raise ConfigError if it is unreadable.
    """
    if str(path) == BUILT_IN:
        return BUILT_IN_YAML
    path = Path(path)
    try:
        if not path.is_file():
            reason = "is a directory, not a file" if path.is_dir() else "no such file"
            raise ConfigError([Problem(str(path), 0, 0, "", reason)])
        with path.open("rb") as file:
            return file.read(yamlfile.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Problem(str(path), 0, 0, "", f"cannot be read: {reason}")]) from None


def _names(root: yamlfile.Node, section: str) -> set[str]:
    """Return the names in a section, even those of invalid entries: a provider with a mistake in its entry still exists."""
    entry = root.entries.get(section) if isinstance(root, yamlfile.Mapping) else None
    return set(entry.value.entries) if entry is not None and isinstance(entry.value, yamlfile.Mapping) else set()


def _apply_overrides(config: Config, over: Overrides) -> Config:
    listen, admin = config.listen, config.admin
    if over.host is not None or over.port is not None:
        listen = Address(
            listen.host if over.host is None else over.host, listen.port if over.port is None else over.port
        )
    if over.admin_port is not None:
        admin = replace(admin, listen=Address(admin.listen.host, over.admin_port))
    grace = config.grace if over.grace is None else over.grace
    return replace(
        config, listen=listen, admin=admin, grace=grace, drain=config.drain if over.drain is None else over.drain
    )


__all__ = [
    "BUILT_IN", "Address", "AdminConfig", "Config", "ConfigError", "KeyConfig", "ModelConfig", "Order", "Overrides", "Problem",
    "ProviderConfig", "Ref", "Route", "Secret", "Split", "TlsConfig", "find_config_path", "load", "parse", "read_config_bytes", "refs",
]  # fmt: skip
