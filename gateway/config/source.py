"""Sources of a configuration: a file with the files that it refers to, or the text that another process has read."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from gateway.config import load as configuration
from gateway.config.files import Files, Watch, fingerprint
from gateway.config.load import BUILT_IN, Config, Overrides


class ConfigText(msgspec.Struct, frozen=True):
    """A configuration with its secrets, as it was read: it can be parsed again without its files."""

    path: str
    data: bytes
    secrets: dict[str, str]
    overrides: Overrides
    files: tuple[str, ...] = ()
    """Paths of the files that the configuration refers to."""

    def parse(self, environ: Mapping[str, str] = os.environ) -> Config:
        """Parse the text again, and return the configuration."""
        files = Files(self.secrets, self.files)
        with _without_collector():
            return configuration.parse(self.data, self.path, overrides=self.overrides, environ=environ, files=files)


class LoadedConfig(msgspec.Struct, frozen=True):
    """A valid configuration, its text, and the fingerprints of its files."""

    config: Config
    text: ConfigText
    fingerprints: dict[str, str]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector, because it would visit the values of a large file repeatedly and double the loading time."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


class ConfigSource:
    """A configuration file, read again after each change."""

    def __init__(self, path: str, overrides: Overrides, environ: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._over = overrides
        self._environ = environ
        self.fingerprints: dict[str, str] = {}
        """Fingerprints at the last reading, whether it succeeded or not."""
        self._watch = Watch()

    def read(self) -> LoadedConfig:
        """Read the file, and return its configuration. Raise ConfigError if the configuration is invalid."""
        files = Files()
        try:
            before = self._fingerprint()
            data = configuration.read_config_bytes(self.path)
            with _without_collector():
                config = configuration.parse(data, self.path, overrides=self._over, environ=self._environ, files=files)
        finally:
            self.fingerprints = {**files.fingerprints, self.path: before}
        return LoadedConfig(
            config, ConfigText(self.path, data, files.secrets, self._over, tuple(files.fingerprints)), self.fingerprints
        )

    def changed_fingerprints(self) -> dict[str, str]:
        """Return the current fingerprints, or an empty dict if nothing has changed since the last reading."""
        if self.path == BUILT_IN:
            return {}
        now = self._watch.fingerprints(self.fingerprints)
        return now if now != self.fingerprints else {}

    def _fingerprint(self) -> str:
        return "" if self.path == BUILT_IN else fingerprint(self.path)
