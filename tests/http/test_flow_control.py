"""The flow control of a caller's connection."""

from __future__ import annotations

import asyncio

from gateway.http.flow_control import FlowControl


class _Transport(asyncio.Transport):
    """Records what the flow control requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []

    def pause_reading(self) -> None:
        self.requests.append("pause")

    def resume_reading(self) -> None:
        self.requests.append("resume")


async def test_senders_wait_while_writing_is_paused_and_all_continue_afterwards() -> None:
    flow = FlowControl(_Transport())
    await flow.drain()
    flow.pause_writing()
    senders = [asyncio.ensure_future(flow.drain()) for _ in range(2)]
    await asyncio.sleep(0)
    assert flow.write_paused
    assert not any(sender.done() for sender in senders)
    flow.pause_writing()
    flow.resume_writing()
    await asyncio.gather(*senders)
    assert not flow.write_paused
    flow.resume_writing()
    await flow.drain()


def test_the_transport_is_paused_and_resumed_once() -> None:
    transport = _Transport()
    flow = FlowControl(transport)
    flow.resume_reading()
    flow.pause_reading()
    flow.pause_reading()
    flow.resume_reading()
    flow.resume_reading()
    assert transport.requests == ["pause", "resume"]
