"""OutageLog: one line at the start of a failure, one at its end, none during a reported outage."""

from __future__ import annotations

import asyncio

from gateway.store.outage_log import OutageLog
from tests.flows.live import eventually


def test_a_failure_and_its_end_are_reported_once_per_subject() -> None:
    lines: list[str] = []
    log = OutageLog(lines.append)
    keys, cooldowns = log.for_subject("keys"), log.for_subject("cooldowns")
    for _ in range(3):
        keys("keys failed", True)
    cooldowns("cooldowns failed", True)
    keys("keys work again", False)
    keys("keys work again", False)
    assert lines == ["keys failed", "cooldowns failed", "keys work again"]


async def test_failures_during_an_outage_are_reported_after_it_unless_they_ended() -> None:
    lines: list[str] = []
    outage = [True]
    log = OutageLog(lines.append, lambda: outage[0], delay_s=0.01)
    keys, cooldowns = log.for_subject("keys"), log.for_subject("cooldowns")
    keys("keys failed", True)
    cooldowns("cooldowns failed", True)
    await asyncio.sleep(0.05)
    assert lines == []
    keys("keys work again", False)
    outage[0] = False
    await eventually(lambda: bool(lines))
    assert lines == ["cooldowns failed"]


async def test_pending_failures_are_discarded_on_stop() -> None:
    lines: list[str] = []
    log = OutageLog(lines.append, delay_s=0.01)
    log.for_subject("keys")("keys failed", True)
    log.stop()
    await asyncio.sleep(0.05)
    assert lines == []
