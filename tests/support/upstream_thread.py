"""A scripted upstream on its own thread and event loop, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from tests.faults.upstream_server import FaultUpstream


class UpstreamThread:
    """Serves a scripted upstream until `stop`."""

    def __init__(self, server: FaultUpstream) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream")
        self._thread.start()
        self._run(server.start())

    def stop(self) -> None:
        """Abort all connections, then end the event loop and the thread."""
        try:
            self._run(self.server.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
