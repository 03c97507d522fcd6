"""A gateway for dry runs: built from a configuration file, never started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.runtime.generation import Generation


def dry_run_generation(config_path: str | None) -> Generation:
    """Return the generation of a configuration file.

    The generation opens no connection, starts no engine and writes no log.
    """
    from gateway.commands.output import load_config
    from gateway.runtime.gateway import Gateway
    from gateway.telemetry.call_log import CallLog

    generation = Gateway(load_config(config_path), CallLog(2, human=True), lambda line: None).generation
    generation.router.discovered.assumes = True
    return generation
