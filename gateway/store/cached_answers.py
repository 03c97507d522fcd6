"""Stores for cached answers: one in the memory of a process, and one in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.store.redis_responses import RedisResponses
from gateway.store.responses import MemoryResponses, ResponseStore

if TYPE_CHECKING:
    from gateway.store.outage_log import OutageReporter

TAG = "answers"


class MemoryAnswers(MemoryResponses):
    """Answers in the memory of this process. If there is no room, the least recently used ones are dropped."""

    async def load(self, owner: str, id: str) -> bytes | None:
        """Return a record, or None if it is unknown or expired."""
        record = await super().load(owner, id)
        if record is not None:
            self._records.move_to_end((owner, id))
        return record


def answer_store(config: Config, report: OutageReporter) -> ResponseStore:
    """Return the store of answers. `report` gets a line for each failure, and one when the store works again."""
    if config.store.startswith("memory:"):
        return MemoryAnswers()
    return RedisResponses(store_address(config), report, tag=TAG, subject="cached answers")


