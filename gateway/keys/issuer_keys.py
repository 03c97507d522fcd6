"""The public keys of one issuer: fetched at an interval and after a token with an unknown key, and kept on disk.

If the issuer cannot be reached, the last known keys stay valid, even after a restart.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from gateway.config.formats import read_https_url
from gateway.config.issuer import IssuerConfig
from gateway.config.key_set import MAX_KEY_SET_BYTES, KeySet, read_key_set
from gateway.upstream.end_tasks import end_tasks
from gateway.upstream.transport import UpstreamError

MIN_INTERVAL_S = 10.0
"""Minimum time between two fetches. It limits the number of fetches that tokens with invented key ids can cause."""
RETRY_S = 15.0
"""Time until the next fetch after a failure. It doubles after each failure, up to MAX_RETRY_S or `refresh`, whichever is shorter."""
MAX_RETRY_S = 300.0
MAX_WAIT_S = 5.0
"""Maximum time for which a call waits for a fetch."""
WELL_KNOWN = "/.well-known/openid-configuration"

Fetch = Callable[[IssuerConfig, str, int], Awaitable[bytes]]
"""Returns the content of a URL of an issuer. Raises UpstreamError if that fails or if the content exceeds the given number of bytes."""


class IssuerKeys:
    """The public keys of an issuer in one process."""

    def __init__(
        self,
        issuer: IssuerConfig,
        fetch: Fetch,
        path: Path | None,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` is the file that keeps the keys, or None. `report` receives the lines for operators."""
        self._issuer = issuer
        self._fetch = fetch
        self._path = path
        self._report = report
        self._clock = clock
        self._content = issuer.key_set.encode()
        self.key_set: KeySet | None = read_key_set(issuer.key_set) if issuer.key_set else None
        """The last known keys, or None if they have never been fetched."""
        self.version = 0
        """Increases with every change of the keys."""
        self.has_failed = False
        """Whether the last fetch failed."""
        self.fetched_at = 0.0
        """The Unix time of the last successful fetch, including fetches of earlier processes; 0 if there was none."""
        self.fetches = {"ok": 0, "failed": 0}
        """Number of fetches since the start, by outcome."""
        self._last_attempt = -MIN_INTERVAL_S
        self._fetching: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        """The last task that saves keys; it begins when the one before it has ended."""
        self._polling: asyncio.Task[None] | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether the keys come from a file that the configuration names."""
        return bool(self._issuer.key_set)

    def start(self) -> None:
        """Load the keys that are kept on disk, then fetch the issuer's keys periodically. Do nothing if the keys are fixed."""
        if not self.is_fixed and self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name=f"keys of issuer {self._issuer.name}")

    async def stop(self) -> None:
        """Stop fetching."""
        await end_tasks([self._polling, self._fetching, self._saving])

    async def refreshed(self) -> bool:
        """Fetch the keys now. Return whether the fetch succeeds within MAX_WAIT_S.

        Return False without a fetch if the last attempt is too recent or if the keys come from a file. Concurrent callers wait for
        the same fetch.
        """
        if self.is_fixed or self._polling is None:
            return False
        if self._fetching is None and self._clock() - self._last_attempt < MIN_INTERVAL_S:
            return False
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await asyncio.shield(self._fetch_keys())
        except TimeoutError:
            return False
        return not self.has_failed

    def _fetch_keys(self) -> asyncio.Task[None]:
        """Return the task that fetches the keys."""
        if self._fetching is None or self._fetching.done():
            self._last_attempt = self._clock()
            self._fetching = asyncio.create_task(self._fetch_or_report(), name=f"fetch of the keys of {self._issuer.name}")
            self._fetching.add_done_callback(self._on_fetched)
        return self._fetching

    def _on_fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _poll(self) -> None:
        await self._load_kept()
        interval = self._issuer.refresh
        retry = RETRY_S
        while True:
            await self._fetch_keys()
            await asyncio.sleep(min(retry, interval) if self.has_failed else interval)
            retry = min(retry * 2, MAX_RETRY_S) if self.has_failed else RETRY_S

    async def _fetch_or_report(self) -> None:
        try:
            url = self._issuer.jwks_url or await self._discover()
            content = await self._fetch(self._issuer, url, MAX_KEY_SET_BYTES)
            self._use(content, time.time())
        except (UpstreamError, ValueError, OSError) as error:
            self.fetches["failed"] += 1
            if not self.has_failed:
                kept = "the last known keys stay valid" if self.key_set is not None else "calls with its tokens are rejected"
                self._report(f"issuer {self._issuer.name}: the keys cannot be fetched ({error}); {kept}")
            self.has_failed = True
            return
        self.fetches["ok"] += 1
        if self.has_failed:
            self._report(f"issuer {self._issuer.name}: the keys can be fetched again")
        self.has_failed = False
        if self._path is not None:  # in another task: a token with a new key must not join a fetch that has ended
            self._saving = asyncio.create_task(self._keep(content, self._path, self._saving), name=f"keys of {self._issuer.name}")

    async def _discover(self) -> str:
        """Return the URL of the keys according to the issuer's OpenID configuration."""
        content = await self._fetch(self._issuer, self._issuer.issuer.rstrip("/") + WELL_KNOWN, MAX_KEY_SET_BYTES)
        try:
            document = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError):
            document = None
        if not isinstance(document, dict) or not isinstance(document.get("jwks_uri"), str):
            raise ValueError(f"its OpenID configuration ({WELL_KNOWN}) is not a JSON object with 'jwks_uri': set jwks_url")
        if document.get("issuer") != self._issuer.issuer:
            raise ValueError("its OpenID configuration names another issuer: set 'issuer' to that name, or set jwks_url")
        return read_https_url(document["jwks_uri"])

    def _use(self, content: bytes, fetched_at: float) -> None:
        """Use the keys of a key set from now on. Raise ValueError if the set is unusable."""
        if content != self._content or self.key_set is None:
            self.key_set = read_key_set(content)
            self._content = content
            self.version += 1
        self.fetched_at = fetched_at

    async def _load_kept(self) -> None:
        if self._path is None:
            return
        try:
            content, fetched_at = await asyncio.to_thread(_load, self._path)
            if self.key_set is None:  # unless a call has caused a fetch in the meantime
                self._use(content, fetched_at)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._report(f"issuer {self._issuer.name}: the saved keys are unusable ({error})")

    async def _keep(self, content: bytes, path: Path, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        try:
            await asyncio.to_thread(_save, path, content)
        except OSError as error:
            self._report(f"issuer {self._issuer.name}: the keys cannot be saved ({error.strerror})")


def _load(path: Path) -> tuple[bytes, float]:
    """Return the content of a file, and the time at which it was written."""
    with path.open("rb") as file:
        return file.read(MAX_KEY_SET_BYTES + 1), os.fstat(file.fileno()).st_mtime


def _save(path: Path, content: bytes) -> None:
    """Replace a file atomically. Several processes may replace the same file at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.rename(path)
