"""The folder for state that survives a restart, such as the usage journal and the run-time keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from gateway.config.load import BUILT_IN
from gateway.config.types import Config


def state_folder(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Return the folder for the state of one configuration, or None if no state is kept.

    Without `journal`, the folder's name contains a digest of the configuration file's path, so that each file has its own state.
    """
    if config.journal == "off" or (config.journal is None and config.path == BUILT_IN):
        return None
    path = Path(config.path).absolute()
    if config.journal is not None:
        return path.parent / Path(config.journal).expanduser()
    state = environ.get("LOCKGATE_STATE")
    if state is None:
        home = Path(environ.get("HOME") or "/nonexistent")
        state = str(Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "lockgate")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.stem)[:40]
    return Path(state) / f"{name}-{hashlib.sha256(str(path).encode()).hexdigest()[:10]}"
