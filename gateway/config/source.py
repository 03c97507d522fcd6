"""Where a configuration comes from: a file with what it refers to, or the same as another process read it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from gateway.config import load as configuration
from gateway.config.files import Files, fingerprint, fingerprints
from gateway.config.load import BUILT_IN, Config, Overrides


class ConfigText(msgspec.Struct, frozen=True):
    """A configuration as it was read, secrets and all: enough to read it again whatever has become of its files."""

    path: str
    data: bytes
    secrets: dict[str, str]
    overrides: Overrides
    files: tuple[str, ...] = ()
    """What it refers to."""

    def parse(self, environ: Mapping[str, str] = os.environ) -> Config:
        """The Config."""
        files = Files(self.secrets, self.files)
        return configuration.parse(self.data, self.path, overrides=self.overrides, environ=environ, files=files)


class LoadedConfig(msgspec.Struct, frozen=True):
    """A sound configuration, the text it was made from, and what tells it from another."""

    config: Config
    text: ConfigText
    fingerprints: dict[str, str]


class ConfigSource:
    """A file of the command line, read as often as it changes."""

    def __init__(self, path: str, overrides: Overrides, environ: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._over = overrides
        self._environ = environ
        self.fingerprints: dict[str, str] = {}
        """The marks of the last reading, sound or not."""

    def read(self) -> LoadedConfig:
        """The file as it is now; ConfigError otherwise."""
        files = Files()
        try:
            before = self._mark()
            data = configuration.read_config_bytes(self.path)
            config = configuration.parse(data, self.path, overrides=self._over, environ=self._environ, files=files)
        finally:
            self.fingerprints = {**files.fingerprints, self.path: before}
        return LoadedConfig(config, ConfigText(self.path, data, files.secrets, self._over, tuple(files.fingerprints)), self.fingerprints)

    def changed_fingerprints(self) -> dict[str, str]:
        """The marks as they are now; empty when nothing is other than the last reading saw it."""
        if self.path == BUILT_IN:
            return {}
        now = fingerprints(self.fingerprints)
        return now if now != self.fingerprints else {}

    def _mark(self) -> str:
        return "" if self.path == BUILT_IN else fingerprint(self.path)
