"""Lists of models: for each provider with `discover`, the names that the provider lists, read at a fixed interval.

While a provider is unavailable, its last list stays in use.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec import structs

from gateway.config.discover import DiscoverConfig
from gateway.config.types import Config
from gateway.targets.backend import Backend
from gateway.upstream.end_tasks import BackgroundTasks
from gateway.upstream.transport import UpstreamError
from providers.base import WireRequest
from providers.model_list import read_model_names

MAX_LIST_BYTES = 4 << 20
MAX_MODELS = 2_000
"""Maximum number of models of one provider. Further models are ignored."""
TIMEOUT_S = 10.0
RETRY_INTERVAL_S = 10.0
"""Maximum interval until the next request after a failed one, before a random change of up to 10 %."""
START_TIMEOUT_S = 5.0
"""Maximum time for which the start of a process waits for the first lists."""


class ListError(Exception):
    """A list of models could not be read. The message contains no secret."""


class _Lister:
    """The list of one provider, and the task that reads it."""

    def __init__(self, name: str, settings: DiscoverConfig, backend: Backend) -> None:
        self.name = name
        self.settings = settings
        self.backend = backend
        self.listed: list[str] | None = None
        """All names in the provider's last list; None until a list has been read."""
        self.tried = asyncio.Event()
        """Set after the first request, whether it succeeded or not."""
        self.failing = False

    @property
    def models(self) -> tuple[str, ...] | None:
        """The listed models that the settings select; None until a list has been read."""
        return None if self.listed is None else tuple(filter(self.settings.takes, self.listed))[:MAX_MODELS]

    @property
    def source(self) -> tuple[str, str]:
        """The name and the base URL of the provider, which identify the source of the list."""
        return self.name, self.backend.target.base_url


class Discovery:
    """The lists of models of one process, as its current generation configures them."""

    def __init__(self, report: Callable[[str], None], on_change: Callable[[], None]) -> None:
        """`report` receives a line when a list changes, cannot be read, or can be read again. `on_change` is called after each change."""
        self._report = report
        self._on_change = on_change
        self._listers: dict[str, _Lister] = {}
        self._tasks = BackgroundTasks()

    @property
    def lists(self) -> Mapping[str, tuple[str, ...] | None]:
        """The names in each provider's list that its settings select; None for a provider whose list has not been read yet."""
        return {name: lister.models for name, lister in self._listers.items()}

    def states(self) -> dict[tuple[str, ...], float]:
        """Return, by provider, 1 if the last attempt to read its list succeeded, else 0."""
        return {(name,): float(lister.models is not None and not lister.failing) for name, lister in self._listers.items()}

    def counts(self) -> dict[tuple[str, ...], float]:
        """Return the number of models in each provider's list that its settings select."""
        return {(name,): float(len(lister.models or ())) for name, lister in self._listers.items()}

    def configure(self, config: Config, backend_of: Callable[[str, str], Backend]) -> None:
        """Read the lists of this configuration's providers. Until a list has been read, use the last list of the same server."""
        known = {lister.source: lister for lister in self._listers.values()}
        self._tasks.cancel()
        self._listers = {}
        for name, provider in config.providers.items():
            if provider.discovery is not None:
                lister = _Lister(name, provider.discovery, backend_of(name, "*"))
                if (before := known.get(lister.source)) is not None:
                    lister.listed, lister.failing = before.listed, before.failing
                self._listers[name] = lister
                self._tasks.start(self._read_repeatedly(lister), f"discover {name}")

    async def wait_for_first(self) -> None:
        """Wait until each provider has answered or failed once, but at most START_TIMEOUT_S."""
        waits = [lister.tried.wait() for lister in self._listers.values()]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*waits), START_TIMEOUT_S)

    async def stop(self) -> None:
        """End all requests."""
        await self._tasks.stop()

    async def _read_repeatedly(self, lister: _Lister) -> None:
        attempt = 0
        while True:
            try:
                self._take(lister, await read_list(lister.backend, attempt))
                wait_s = lister.settings.every
            except Exception as error:  # a plugin may fail in any way, and the next request may succeed
                self._fail(lister, str(error) if isinstance(error, ListError) else type(error).__name__)
                wait_s = min(RETRY_INTERVAL_S, lister.settings.every)
            lister.tried.set()
            attempt += 1
            await asyncio.sleep(wait_s * (0.9 + 0.2 * random.random()))  # so that processes do not ask at the same moments

    def _take(self, lister: _Lister, listed: list[str]) -> None:
        before, lister.listed = lister.models, listed
        recovered, lister.failing = lister.failing, False
        models = set(lister.models or ())
        if before is None or models != set(before):
            change = "" if before is None else f" ({len(models - set(before))} new, {len(set(before) - models)} removed)"
            bound = f"; only the first {MAX_MODELS} are used" if len(models) == MAX_MODELS else ""
            self._report(f"provider {lister.name} lists {in_words(len(models))}{change}{bound}")
            self._on_change()
        elif recovered:
            self._report(f"provider {lister.name}: the list of models can be read again")

    def _fail(self, lister: _Lister, reason: str) -> None:
        if not lister.failing:
            lister.failing = True
            kept = "there is no earlier list" if lister.models is None else f"its last list of {in_words(len(lister.models))} stays in use"
            self._report(f"provider {lister.name}: the list of models cannot be read: {reason}; {kept}")


def in_words(count: int) -> str:
    """Return a number of models as text."""
    return "1 model" if count == 1 else f"{count} models"


async def read_list(backend: Backend, attempt: int = 0) -> list[str]:
    """Return the models that a provider lists. Raise ListError if the list cannot be read. `attempt` selects one of several credentials."""
    target = backend.targets[attempt % len(backend.targets)]
    path = target.kind.models_path(urlsplit(target.base_url).path.rstrip("/"))
    if path is None:
        raise ListError("the provider has no list of models")
    headers = [*target.kind.probe_headers(target), ("accept", "application/json")]
    deadlines = structs.replace(backend.deadlines, total=min(TIMEOUT_S, backend.deadlines.total))
    try:
        response = await backend.transport.send(backend.origin, WireRequest(path, headers, b"", "GET"), deadlines)
        try:
            body = await response.body(MAX_LIST_BYTES)
        finally:
            response.close()
    except UpstreamError as error:
        raise ListError(error.message) from None
    if response.status != 200:
        raise ListError(f"GET {path} was answered with HTTP {response.status}")
    try:
        return await asyncio.to_thread(read_model_names, body)
    except ValueError as error:
        raise ListError(str(error)) from None
