"""Reload: read the configuration again, check it, and apply it, or report why it cannot be applied.

The old generation serves until the new one is ready.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from gateway.config.check import check_listeners
from gateway.config.diff import Change, compare, keep_restart_only, restart_changes, summarize
from gateway.config.load import Config, ConfigError, Problem, read_config_bytes
from gateway.config.problem import Problems
from gateway.config.rejected import changed_paths
from gateway.config.source import ConfigSource, LoadedConfig
from gateway.runtime.gateway import Gateway
from gateway.runtime.resources import LocalModelError

POLL_INTERVAL_S = 0.4
"""Interval at which the files are checked.

A change is applied when two checks in a row find the same contents, or after MAX_SETTLE_S.
"""
MAX_SETTLE_S = 1.0

Outcome = Literal["applied", "failed", "unchanged"]
Follower = Callable[[LoadedConfig, int], Awaitable[None]]


class Reloader:
    """Reloads the configuration of a process.

    `followers` are called with each configuration after it has been applied.
    """

    def __init__(
        self, gateway: Gateway, source: ConfigSource, loaded: LoadedConfig, *, poll_interval_s: float = POLL_INTERVAL_S
    ) -> None:
        self._gateway = gateway
        self._source = source
        self._poll_interval_s = poll_interval_s
        self._lock = asyncio.Lock()
        self.loaded = loaded
        """The configuration of the serving generation, as read from the files."""
        self.followers: list[Follower] = []
        self.counts: dict[Outcome, int] = {"applied": 0, "failed": 0, "unchanged": 0}
        self.problems: tuple[Problem, ...] = ()
        """The problems of the last reload; empty if it succeeded."""
        self.changes: list[Change] = []
        """The changes that the last successful reload made."""
        self.rejected: list[str] = []
        """The changes that the rejected file contains, as paths without values; empty if the last reload succeeded."""
        self.needs_restart: list[Change] = []
        """Changes in the file that take effect only after a restart."""
        self.last_reload_at = time.time()
        self._register_gauges()

    async def reload(self) -> Outcome:
        """Read the files now and apply them. Every outcome except `unchanged` is reported in one line."""
        async with self._lock:
            self.rejected = []
            try:
                outcome = await self._reload()
                self.problems = ()
            except ConfigError as error:
                outcome = self._fail(error.problems)
                self.rejected = await asyncio.to_thread(self._rejected_changes)
            except LocalModelError as error:
                outcome = self._fail((Problem(self._source.path, 0, 0, "", str(error)),))
            except Exception as error:  # the old generation keeps serving after any error in the new one
                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                outcome = self._fail((Problem(self._source.path, 0, 0, "", f"internal error: {where}"),))
            self.last_reload_at = time.time()
            self.counts[outcome] += 1
            return outcome

    async def _reload(self) -> Outcome:
        loaded = await asyncio.to_thread(self._source.read)
        if loaded.fingerprints == self.loaded.fingerprints:
            return "unchanged"
        running = self._gateway.config
        self.loaded, before = await self._apply(loaded), self.loaded
        self.needs_restart = restart_changes(running, loaded.config)
        self.changes = await asyncio.to_thread(compare, running, self._gateway.config)
        line = f"{self._source.path}: generation {self._gateway.generation.number} is serving: {summarize(self.changes)}"
        if self.needs_restart and self.needs_restart != restart_changes(running, before.config):
            line += "; needs a restart: " + ", ".join(change.name for change in self.needs_restart)
        self._gateway.report(line)
        return "applied"

    async def _apply(self, loaded: LoadedConfig) -> LoadedConfig:
        config = applicable(loaded.config, self._gateway.config)
        await self._gateway.apply(config)
        for follower in self.followers:
            await follower(loaded, self._gateway.generation.number)
        return loaded

    def _fail(self, problems: tuple[Problem, ...]) -> Outcome:
        self.problems = problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        number = self._gateway.generation.number
        self._gateway.report(f"reload failed, generation {number} is still serving: {problems[0]}{more}")
        return "failed"

    def _rejected_changes(self) -> list[str]:
        """Return the paths of the settings that differ between the file and the serving configuration; none if the file is unreadable."""
        try:
            return changed_paths(self.loaded.text.data, read_config_bytes(self._source.path))
        except ConfigError:
            return []

    async def watch(self) -> None:
        """Reload whenever a file has changed, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_interval_s)
            changed = await asyncio.to_thread(self._source.changed_fingerprints)
            if not changed:
                continue
            await self._wait_until_settled(changed)
            await self.reload()

    async def _wait_until_settled(self, changed: dict[str, str]) -> None:
        """Wait while the files still change: an editor may write a file in several steps."""
        deadline = time.monotonic() + MAX_SETTLE_S
        while time.monotonic() < deadline:
            await asyncio.sleep(self._poll_interval_s / 2)
            latest = await asyncio.to_thread(self._source.changed_fingerprints)
            if latest == changed:
                return
            changed = latest

    def _register_gauges(self) -> None:
        gauge = self._gateway.metrics.gauge
        gauge("lockgate_config_generation", lambda: {(): self._gateway.generation.number})
        gauge("lockgate_config_reloads", lambda: {(outcome,): count for outcome, count in self.counts.items()})
        gauge("lockgate_config_last_reload_successful", lambda: {(): float(not self.problems)})
        gauge("lockgate_config_last_reload_timestamp_seconds", lambda: {(): self.last_reload_at})

    def describe(self) -> dict[str, Any]:
        """Return the state of the configuration as JSON values, for /admin/config."""
        generation = self._gateway.generation
        return {
            "generation": generation.number,
            "path": self._source.path,
            "loaded_at": generation.loaded_at,
            "reloads": self.counts,
            "last_reload": {"at": self.last_reload_at, "successful": not self.problems},
            "error": [{"line": str(problem), **_position(problem)} for problem in self.problems],
            "rejected": self.rejected,
            "changes": [str(change) for change in self.changes],
            "needs_restart": [str(change) for change in self.needs_restart],
        }


def applicable(config: Config, running: Config) -> Config:
    """Return a new configuration with the running values of all settings that need a restart.

    Raise ConfigError if the listeners of the combination are open or invalid, or if it no longer requires keys without an explicit
    `auth: none`.
    """
    combined = keep_restart_only(config, running)
    problems = Problems(config.path)
    check_listeners(combined, problems)
    if running.requires_keys and combined.auth == "auto" and not combined.keys and not combined.issuers:
        problems.add_at_path(
            "keys",
            "removing the last key or issuer would open the gateway: set auth: keys (run-time keys only) or auth: none",
        )
    problems.raise_if_any()
    return combined


def _position(problem: Problem) -> dict[str, Any]:
    return {"path": problem.path, "row": problem.line, "column": problem.column, "message": problem.message}
