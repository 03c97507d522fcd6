"""P1 and P2: what callers, probes and the books see of a process that ends; and SIGHUP, for one process and for several."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.client import Answer, FaultClient, ask
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat
from tests.flows.test_process import children
from tests.running import Figure, RunningGateway

Start = Callable[..., RunningGateway]
STREAMS = 120
SHORT = 18
"""Pieces of a stream that ends within the time to drain, at ten a second."""
GRACE = 4.0
"""Seconds in which all that is asked of a draining gateway is asked, on a busy machine too."""


def config(up: FaultUpstream, rest: str = "") -> str:
    """One model at the upstream; the store only allows several workers."""
    return f"""
store: redis://127.0.0.1:1/0
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: up/mock
{rest}"""


async def started(gateway: Start, yaml: str, workers: int, *args: str) -> RunningGateway:
    """A gateway that answers."""
    running = await asyncio.to_thread(gateway, yaml, None, ("--workers", str(workers), *args))
    await asyncio.to_thread(running.wait_ready)
    for _ in range(4 * workers):  # the port is open before every worker listens
        assert (await ask(port(running), chat(max_tokens=1))).status == 200
    return running


def port(running: RunningGateway) -> int:
    """The callers' port."""
    return int(running.url.rsplit(":", 1)[1])


async def stream(running: RunningGateway, chunks: int, begun: list[int]) -> Answer:
    """One stream of so many pieces, ten a second, read to its end."""
    async with await FaultClient.connect(port(running)) as client:
        await client.post(chat(text=f"#chunks={chunks}##delay=100ms#", stream=True))
        await client.read_until(b'"content"', 60)
        begun.append(chunks)
        return await client.answer(60)


async def open_streams(running: RunningGateway, short: int, long: int) -> list[asyncio.Task[Answer]]:
    """Streams that end within seconds, and streams that would go on for minutes; all of them have begun."""
    begun: list[int] = []
    tasks = [asyncio.create_task(stream(running, SHORT, begun)) for _ in range(short)]
    tasks += [asyncio.create_task(stream(running, 3000, begun)) for _ in range(long)]
    while len(begun) < short + long:
        await asyncio.sleep(0.02)
        for task in tasks:
            if task.done() and len(begun) < short + long:
                task.result()
    return tasks


async def admin(running: RunningGateway, path: str) -> httpx.Response:
    """One answer of the admin listener."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.get(running.admin_url + path)


async def ended(running: RunningGateway, within: float = 60) -> int:
    """The exit code."""
    return await asyncio.to_thread(running.process.wait, within)


@pytest.mark.parametrize("workers", [1, 2])
async def test_p1_sigterm_lets_what_is_in_front_notice_then_streams_end_then_cuts_them_with_an_error(
    gateway: Start, workers: int, figure: Figure
) -> None:
    await _end_with_streams(gateway, workers, STREAMS, figure)


@pytest.mark.prove
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("many_files")
async def test_p1_sigterm_with_500_streams_ends_like_one_with_few(gateway: Start, figure: Figure) -> None:
    await _end_with_streams(gateway, 2, 500, figure)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the sockets of a thousand streams in this process, which is caller and upstream at once, and in those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8000)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _end_with_streams(gateway: Start, workers: int, streams: int, figure: Figure) -> None:
    """SIGTERM while so many streams run, half of which end in time."""
    async with FaultUpstream() as up:
        running = await started(gateway, config(up, f"grace: {GRACE * 1000:.0f}ms\ndrain: 2500ms\n"), workers)
        tasks = await open_streams(running, streams // 2, streams // 2)
        running.process.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        while (ready := await admin(running, "/readyz")).status_code == 200:
            assert time.monotonic() - signalled < GRACE - 0.1
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        assert "lockgate_draining 1.0" in (await admin(running, "/metrics")).text
        assert (await admin(running, "/healthz")).status_code == 200
        late = await ask(port(running), chat(max_tokens=1))
        while late.header("connection") != "close":  # a worker may hear of it a moment later
            late = await ask(port(running), chat(max_tokens=1))
        assert (late.status, late.header("connection")) == (200, "close")
        answers = await asyncio.gather(*tasks)
        assert await ended(running) == 0
        took = time.monotonic() - signalled
    figure(f"from SIGTERM to the exit, with {streams} streams and {workers} workers, grace {GRACE} s and drain 2.5 s", took, "s")
    assert GRACE + 2.5 < took < GRACE + 28.5  # promised are 2 more than grace and drain; the streams alone would take 300
    with pytest.raises(OSError, match="onnect"):
        await FaultClient.connect(port(running))
    _check_answers(running, answers, streams)


def _check_answers(running: RunningGateway, answers: list[Answer], streams: int) -> None:
    """Short streams are whole, long ones end with an error event; each has one record that says so."""
    short, long = answers[: streams // 2], answers[streams // 2 :]
    assert all(answer.events[-1] == b"[DONE]" and answer.text.count("w") == SHORT for answer in short)
    assert {answer.failure["code"] for answer in long} == {"server_shutting_down"}
    records = [record for record in running.records() if record.get("stream")]
    assert len(records) == streams
    assert sum(record["stream_end"] not in ("drain", None) and record["status"] == 200 for record in records) == streams // 2
    cut = [record for record in records if record.get("stream_end") == "drain"]
    assert len(cut) == streams // 2
    received = sorted(answer.text.count("w") for answer in long)
    assert sorted(record["output_tokens"] for record in cut) == pytest.approx(received, rel=0.5)


@pytest.mark.parametrize("workers", [1, 2])
async def test_p2_a_second_sigterm_ends_everything_at_once_and_accounts_for_it(gateway: Start, workers: int, figure: Figure) -> None:
    await _end_twice(gateway, workers, STREAMS // 2, figure)


@pytest.mark.prove
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize(("workers", "streams"), [(1, 500), (2, 500), (4, 60)])
async def test_p2_a_second_sigterm_takes_no_longer_with_more_streams_or_workers(
    gateway: Start, workers: int, streams: int, figure: Figure
) -> None:
    await _end_twice(gateway, workers, streams, figure)


async def _end_twice(gateway: Start, workers: int, streams: int, figure: Figure) -> None:
    """Two signals while so many streams run; the store is away, which must not make a difference."""
    async with FaultUpstream() as up:
        running = await started(gateway, config(up, "grace: 60s\ndrain: 60s\n"), workers)
        tasks = await open_streams(running, 0, streams)
        running.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert running.process.poll() is None
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert await ended(running) == 0
        took = time.monotonic() - began
        answers = await asyncio.gather(*tasks)
    figure(f"from the second SIGTERM to the exit, with {streams} streams and {workers} workers", took, "s")
    assert took < 5  # promised is 1
    assert {answer.failure["code"] for answer in answers} == {"server_shutting_down"}
    records = [record["stream_end"] for record in running.records() if record.get("stream")]
    assert records == ["drain"] * streams


async def test_a_reader_who_stopped_does_not_hold_up_the_end_and_is_accounted_for(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await started(gateway, config(up), 1, "--grace", "0", "--drain", "1s")
        async with await FaultClient.connect(port(running), receive_buffer=2048) as client:
            await client.post(chat(text="#chunks=100000#", stream=True))
            await client.read_until(b'"content"')
            await asyncio.sleep(1)  # the gateway can write no more
            running.process.send_signal(signal.SIGTERM)
            assert await ended(running, 30) == 0
        records = [record for record in running.records() if record.get("stream")]
    assert [record["stream_end"] for record in records] == ["drain"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_and_a_changed_file_reach_every_process(gateway: Start, workers: int, tmp_path: Path) -> None:
    async with FaultUpstream() as up:
        running = await started(gateway, config(up), workers)
        path = tmp_path / "gateway-0" / "gateway.yaml"
        path.write_text(config(up, "  n: m\n"))
        running.process.send_signal(signal.SIGHUP)
        await until(lambda: generation(running, 2))
        await until(lambda: _all(running, "n", 200))  # a worker that was starting hears of it a moment later
        path.write_text(config(up, "  o: m\n"))  # without a signal
        await until(lambda: generation(running, 3))
        await until(lambda: _all(running, "o", 200))
        assert await _all(running, "n", 404)
        assert running.process.poll() is None


async def _all(running: RunningGateway, model: str, status: int) -> bool:
    """Whether twenty calls are answered so, each on a connection of its own."""
    return {(await ask(port(running), chat(model, max_tokens=1))).status for _ in range(20)} == {status}


async def generation(running: RunningGateway, number: int) -> bool:
    """Whether /admin/config says that this generation serves."""
    found: dict[str, Any] = (await admin(running, "/admin/config")).json()
    return found["generation"] == number and not found["error"]


async def until(true: Callable[[], Any], within: float = 30) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + within
    while not await true():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.1)


async def test_a_worker_that_starts_while_the_file_is_bad_serves_by_the_generation_of_the_others(gateway: Start, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-upstream-0123456789")
    secret.chmod(0o600)
    async with FaultUpstream() as up:
        yaml = config(up).replace("type:", f'api_key: "file:{secret}", type:')
        running = await started(gateway, yaml, 2)
        path = tmp_path / "gateway-0" / "gateway.yaml"
        path.write_text(yaml + "  n: m\n")
        await until(lambda: generation(running, 2))
        path.write_text("retrys: 1\n")
        secret.unlink()
        await until(lambda: _failed(running))
        before = set(children(running.pid))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: _replaced(running, before))
        assert {(await ask(port(running), chat("n", max_tokens=1))).status for _ in range(20)} == {200}
        assert up.requests[-1].header("authorization") == "Bearer sk-upstream-0123456789"
        assert running.stderr.count("restarting in") == 2, "a bad file must not end a worker that starts"
        assert b"sk-upstream" not in arguments(running)


def arguments(running: RunningGateway) -> bytes:
    """What every user of the machine sees of the workers."""
    return b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(running.pid))


async def _failed(running: RunningGateway) -> bool:
    return bool((await admin(running, "/admin/config")).json()["error"])


async def _replaced(running: RunningGateway, before: set[int]) -> bool:
    """Two others are there, and answer."""
    if len(set(children(running.pid)) - before) < 2:
        return False
    try:
        return all([(await ask(port(running), chat(max_tokens=1))).status == 200 for _ in range(10)])
    except (AssertionError, OSError):
        return False
