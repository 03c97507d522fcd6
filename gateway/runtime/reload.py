"""A changed file becomes the next generation, or an error that is shown while the old one goes on. Nothing in between."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from gateway.config.check import check_listeners
from gateway.config.diff import Change, compare, keep_restart_only, restart_changes, summarize
from gateway.config.load import Config, ConfigError, Problem
from gateway.config.problem import Problems
from gateway.config.source import ConfigSource, LoadedConfig
from gateway.runtime.gateway import EngineRefused, Gateway

LOOK_EVERY = 0.4
"""Seconds between two looks at the files: a change is taken up once two looks agree on it, or after PATIENCE."""
PATIENCE = 1.0

Outcome = Literal["applied", "failed", "unchanged"]
Follower = Callable[[LoadedConfig, int], Awaitable[None]]


class Reloader:
    """Keeps a process's generation the file's. `followers` are told of each that was applied, before callers are served by it elsewhere."""

    def __init__(self, gateway: Gateway, source: ConfigSource, loaded: LoadedConfig, *, look_every: float = LOOK_EVERY) -> None:
        self._gateway = gateway
        self._source = source
        self._look_every = look_every
        self._lock = asyncio.Lock()
        self.loaded = loaded
        """What the current generation was made from."""
        self.followers: list[Follower] = []
        self.counts: dict[Outcome, int] = {"applied": 0, "failed": 0, "unchanged": 0}
        self.problems: tuple[Problem, ...] = ()
        """Why the last reload failed; empty when it did not."""
        self.waiting: list[Change] = []
        """What the file says that only a restart can take up."""
        self.at = time.time()
        """When the configuration was last loaded, or tried to be."""
        self._count_at_scrape()

    async def reload(self) -> Outcome:
        """Look at the file now. One at a time; every outcome but an unchanged file is one line for the operator."""
        async with self._lock:
            try:
                outcome = await self._reload()
                self.problems = ()
            except ConfigError as error:
                outcome = self._failed(error.problems)
            except EngineRefused as error:
                outcome = self._failed((Problem(self._source.path, 0, 0, "", str(error)),))
            except Exception as error:  # whatever is wrong with a new generation, the old one serves
                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                outcome = self._failed((Problem(self._source.path, 0, 0, "", f"the gateway failed to load it: {where}"),))
            self.at = time.time()
            self.counts[outcome] += 1
            return outcome

    async def _reload(self) -> Outcome:
        loaded = await asyncio.to_thread(self._source.read)
        if loaded.fingerprints == self.loaded.fingerprints:
            return "unchanged"
        running = self._gateway.config
        self.loaded, before = await self._take_up(loaded), self.loaded
        self.waiting = restart_changes(running, loaded.config)
        changes = summarize(compare(running, self._gateway.config))
        line = f"{self._source.path}: generation {self._gateway.generation.number} serves: {changes}"
        if self.waiting and self.waiting != restart_changes(running, before.config):
            line += "; needs a restart: " + ", ".join(change.name for change in self.waiting)
        self._gateway.report(line)
        return "applied"

    async def _take_up(self, loaded: LoadedConfig) -> LoadedConfig:
        config = applicable(loaded.config, self._gateway.config)
        await self._gateway.apply(config)
        for follower in self.followers:
            await follower(loaded, self._gateway.generation.number)
        return loaded

    def _failed(self, problems: tuple[Problem, ...]) -> Outcome:
        self.problems = problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self._gateway.report(f"not loaded, generation {self._gateway.generation.number} goes on: {problems[0]}{more}")
        return "failed"

    async def watch(self) -> None:
        """Reload whenever a file has changed; for as long as the process serves."""
        while True:
            await asyncio.sleep(self._look_every)
            found = await asyncio.to_thread(self._source.changed_fingerprints)
            if not found:
                continue
            await self._settled(found)
            await self.reload()

    async def _settled(self, found: dict[str, str]) -> None:
        """Wait while the files still change, as an editor may write one in pieces; not for long."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            await asyncio.sleep(self._look_every / 2)
            later = await asyncio.to_thread(self._source.changed_fingerprints)
            if later == found:
                return
            found = later

    def _count_at_scrape(self) -> None:
        gauge = self._gateway.metrics.gauge
        gauge("lockgate_config_generation", lambda: {(): self._gateway.generation.number})
        gauge("lockgate_config_reloads", lambda: {(name,): n for name, n in self.counts.items()})
        gauge("lockgate_config_last_reload_successful", lambda: {(): float(not self.problems)})
        gauge("lockgate_config_last_reload_timestamp_seconds", lambda: {(): self.at})

    def describe(self) -> dict[str, Any]:
        """What an operator wants to know of the configuration that serves."""
        generation = self._gateway.generation
        return {
            "generation": generation.number,
            "path": self._source.path,
            "loaded_at": generation.loaded_at,
            "reloads": self.counts,
            "last_reload": {"at": self.at, "successful": not self.problems},
            "error": [{"line": str(one), **_fields(one)} for one in self.problems],
            "needs_restart": [str(change) for change in self.waiting],
        }


def applicable(config: Config, running: Config) -> Config:
    """A new configuration as the running process can serve it; ConfigError when that would open a door that its file closes."""
    found = keep_restart_only(config, running)
    problems = Problems(config.path)
    check_listeners(found, problems)
    if running.requires_keys and found.auth == "auto" and not found.keys:
        problems.add_at_path("keys", "without the last key anybody could call: write auth: keys (those made at run time are taken) or auth: none")
    problems.raise_if_any()
    return found


def _fields(problem: Problem) -> dict[str, Any]:
    return {"path": problem.path, "row": problem.line, "column": problem.column, "message": problem.message}
