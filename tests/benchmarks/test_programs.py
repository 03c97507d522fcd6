"""The mock upstream and the load generator, compiled and run: correct answers are counted, and wrong ones fail the run."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.apis import CALLS
from benchmarks.bodies import CHAT_EVENTS, NUMBER, conversation, request_body, with_tools
from benchmarks.instructions import SOFTWARE, TASK_CLOCK, Counter, count_instructions
from benchmarks.measure import cpu_seconds, memory_kib
from benchmarks.processes import (
    ALL_CORES,
    BrokenTargetError,
    Pace,
    Request,
    Target,
    compile_programs,
    run_load,
    start_mock,
    stop,
)

pytestmark = pytest.mark.prove
JSON, SSE = Request(request_body(False)), Request(request_body(True), events=CHAT_EVENTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both programs."""
    path = tmp_path_factory.mktemp("programs")
    compile_programs(path)
    return path


@pytest.fixture(scope="module")
def mock(folder: Path) -> Iterator[Target]:
    """The mock as a target."""
    process, port = start_mock(folder, ALL_CORES)
    yield Target("mock", port, process, 0)
    stop(process)


def test_closed_loop_sends_each_connection_its_number_of_requests(folder: Path, mock: Target) -> None:
    load = run_load(folder, mock, JSON, Pace(8, 30, times=25))
    assert (load.completed, load.errors, load.events) == (200, 0, 0)
    assert 0 < load.first_p50_ms <= load.p50_ms <= load.p99_ms


def test_streams_are_checked_event_by_event(folder: Path, mock: Target) -> None:
    load = run_load(folder, mock, SSE, Pace(4, 30, times=5))
    assert load.completed == 20
    assert load.events == 20 * (CHAT_EVENTS - 1) or load.events == 20 * CHAT_EVENTS
    with pytest.raises(BrokenTargetError, match="wrong answer"):
        run_load(folder, mock, Request(SSE.body, events=40), Pace(1, 5, times=1))


def test_open_loop_begins_requests_at_its_rate(folder: Path, mock: Target) -> None:
    load = run_load(folder, mock, JSON, Pace(64, 2, rate=200))
    assert (load.completed, load.errors) == (400, 0)
    assert load.seconds >= 1.99


def test_open_loop_counts_the_wait_for_a_connection_as_latency(folder: Path, mock: Target) -> None:
    slow = Request(request_body(False, "#delay=50000#"))
    load = run_load(folder, mock, slow, Pace(1, 0.5, rate=100))
    assert load.completed == 50
    assert load.p99_ms > 1500  # one connection needs 2.5 s for the requests of half a second
    assert run_load(folder, mock, slow, Pace(1, 30, times=3)).p50_ms >= 50


def test_first_content_of_a_stream_is_not_its_head(folder: Path, mock: Target) -> None:
    delay_ms = 100
    request = Request(request_body(True, f"#chunks=6##delay={delay_ms * 1000}#"), events=6)
    load = run_load(folder, mock, request, Pace(1, 30, times=1))
    assert load.first_p50_ms <= load.content_p50_ms < load.p50_ms
    assert load.content_p50_ms >= delay_ms


def test_without_content_the_end_counts_as_the_first_content(folder: Path, recorder: Target) -> None:
    load = run_load(folder, recorder, Request(JSON.body, "/right"), Pace(1, 30, times=1))
    assert load.first_p50_ms <= load.content_p50_ms <= load.p50_ms


def test_every_api_of_the_mock_gives_its_right_answer(folder: Path, mock: Target) -> None:
    native = [call for name, call in CALLS.items() if "native" in name or "unchanged" in name or "Cohere" in name.partition(",")[2]]
    assert len(native) >= 9
    for call in native:
        assert run_load(folder, mock, call.request, Pace(2, 30, times=3)).completed == 6


def test_megabyte_bodies_arrive_whole(folder: Path, mock: Target) -> None:
    body = request_body(False, size=1_000_000)
    assert len(body) == 1_000_000
    assert run_load(folder, mock, Request(body), Pace(4, 30, times=5)).completed == 20


class Recorder(http.server.BaseHTTPRequestHandler):
    """Records bodies. Its answers are wrong, except to paths with `right`. Paths with `fails` get the status 500."""

    protocol_version = "HTTP/1.1"
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        """Record a body and answer it."""
        Recorder.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        status = 500 if "fails" in self.path else 200
        answer = b'{"choices": [{"finish_reason":"stop"}]}' if "right" in self.path else b'{"error": "no"}'
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def recorder(mock: Target) -> Iterator[Target]:
    """A server whose answers are wrong, except below `/right`."""
    Recorder.bodies = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Target("recorder", server.server_port, mock.process, 0)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/wrong", "/fails"])
def test_wrong_answer_or_status_fails_the_run(folder: Path, recorder: Target, path: str) -> None:
    with pytest.raises(BrokenTargetError, match=f"recorder gave wrong answers to {path}"):
        run_load(folder, recorder, Request(JSON.body, path), Pace(1, 5, times=1))


def test_each_request_has_another_number_in_every_place(folder: Path, recorder: Target) -> None:
    body = conversation("bench", 5, 100, new=True)
    run_load(folder, recorder, Request(body, "/right"), Pace(1, 30, times=3))
    texts = [[turn["content"].split()[0] for turn in json.loads(sent)["messages"][1:]] for sent in Recorder.bodies]
    assert texts == [[f"{number:010d}"] * 5 for number in (1, 2, 3)]
    assert NUMBER.encode() not in b"".join(Recorder.bodies)
    assert len(json.loads(with_tools(False, 20))["tools"]) == 20


def test_counter_counts_this_process_or_the_kernel_refuses(mock: Target) -> None:
    try:
        counter = Counter([os.getpid()], SOFTWARE, TASK_CLOCK)
    except OSError:
        assert count_instructions([os.getpid()]) is None
        return
    before = counter.read()
    sum(range(2_000_000))
    assert counter.read() - before > 1_000_000  # nanoseconds
    counter.close()
    assert counter.read() == 0


def test_cpu_time_and_memory_are_those_of_the_process(folder: Path, mock: Target) -> None:
    before = cpu_seconds(mock.process.pid)
    run_load(folder, mock, SSE, Pace(16, 30, times=300))
    assert cpu_seconds(mock.process.pid) > before
    assert 100 < memory_kib(mock.process.pid) < 100_000
