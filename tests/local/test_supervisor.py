"""providers.local.supervisor with real child processes that die, hang, grow or do not start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.base import Failure
from providers.local.admission import Lease
from providers.local.options import LocalOptions
from providers.local.supervisor import Engine, Timing
from tests.local.conftest import client_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

SHORT = LocalOptions(slots=1, context=256)
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4, "temperature": 0}


@asynccontextmanager
async def running(options: LocalOptions = SHORT, expected: str = "ready", **settings: Any) -> AsyncIterator[tuple[Engine, list[str]]]:
    """Run an engine for one test, and return it with the lines that it reported."""
    lines: list[str] = []
    engine = Engine(options, report=lines.append, **settings)
    await engine.start()
    try:
        assert await engine.settled(60) == expected, engine.reason
        yield engine, lines
    finally:
        await engine.stop()


async def until(what: Callable[[], bool], within: float = 30.0) -> float:
    """Wait until `what` is true. Return the seconds that this took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within, "it did not happen in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def alive(pid: int | None) -> bool:
    """Return whether a process with this id exists."""
    return Path(f"/proc/{pid}").exists()


def environment_of(engine: Engine) -> list[bytes]:
    """Return the environment that the child has."""
    return Path(f"/proc/{engine.pid}/environ").read_bytes().split(b"\0")


async def answered(engine: Engine) -> bool:
    """Return whether the engine answers a chat request."""
    async with client_of(engine) as client:
        return (await client.post("/v1/chat/completions", json=HELLO)).status_code == 200


async def test_child_inherits_no_variable_beyond_the_allowed_ones(bundled_model: Path) -> None:
    variables = {
        **os.environ,
        "OPENAI_API_KEY": "sk-canary-123",
        "LOCKGATE_SECRET": "canary",
        "LC_ALL": "C.UTF-8",
        "OMP_WAIT_POLICY": "active",
    }
    async with running(environ=variables) as (engine, _):
        seen = environment_of(engine)
    assert not [item for item in seen if b"canary" in item]
    assert b"LC_ALL=C.UTF-8" in seen
    assert b"OMP_WAIT_POLICY=active" in seen, "a value set by the operator wins"


async def test_threads_wait_passively_unless_configured(engine: Engine) -> None:
    assert b"OMP_WAIT_POLICY=passive" in environment_of(engine)


async def test_socket_is_in_a_private_directory(engine: Engine) -> None:
    folder = Path(engine.socket).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(os.fsencode(engine.socket)) < 108


async def test_child_runs_in_a_session_of_its_own(engine: Engine) -> None:
    assert engine.pid is not None
    assert os.getsid(engine.pid) == engine.pid != os.getsid(0)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.prove) for number in (signal.SIGSEGV, signal.SIGABRT))]
)
async def test_killed_child_is_restarted_and_answers(
    bundled_model: Path, number: signal.Signals, figure: Callable[[str, float, str], None]
) -> None:
    async with running() as (engine, lines):
        first, socket = engine.pid, engine.socket
        assert first is not None
        os.kill(first, number)
        figure(f"engine ready again after {number.name}", await until(lambda: engine.restarts == 1 and engine.state == "ready"), "s")
        assert engine.pid != first
        assert engine.socket == socket
        assert dict(engine.causes) == {"exit": 1}
        assert any(number.name in line for line in lines)
        assert await answered(engine)


async def test_call_in_flight_fails_with_engine_crashed_when_the_child_dies(bundled_model: Path) -> None:
    async with running() as (engine, _), client_of(engine) as client:
        body = {**HELLO, "max_tokens": 200, "stream": True, "ignore_eos": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            pieces = response.aiter_bytes()
            await anext(pieces)
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                [_ async for _ in pieces]
        assert engine.failure().kind == "crashed"
        assert engine.failure().code == "engine_crashed"


async def test_hanging_child_is_killed_and_restarted(bundled_model: Path) -> None:
    async with running(timing=Timing(check_interval_s=0.1, hung_after_s=1.0)) as (engine, lines):
        first = engine.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await until(lambda: engine.causes["hung"] == 1 and engine.state == "ready")
        assert not alive(first)
        assert any("did not answer" in line for line in lines)
        assert await answered(engine)


@pytest.mark.prove
async def test_computing_child_does_not_count_as_hung(bundled_model: Path) -> None:
    options = LocalOptions(slots=1, context=2048)
    async with (
        running(options, timing=Timing(check_interval_s=0.05, hung_after_s=0.5, busy_hung_after_s=60)) as (engine, _),
        client_of(engine) as client,
    ):
        body = {**HELLO, "messages": [{"role": "user", "content": "a long story " * 110}]}
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        assert engine.restarts == 0


def scripted(tmp_path: Path, script: str) -> dict[str, str]:
    """Return the environment of a child whose engine library follows a script."""
    shutil.copy(Path(__file__).with_name("scripted_engine.py"), tmp_path / "xllamacpp.py")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "LC_ENGINE": script}


async def test_child_over_its_memory_cap_is_restarted(bundled_model: Path, tmp_path: Path) -> None:
    options = LocalOptions(memory=200 << 20)
    async with running(options, timing=Timing(check_interval_s=0.05), environ=scripted(tmp_path, "grow")) as (engine, lines):
        first = engine.pid
        await until(lambda: engine.causes["memory"] >= 1)
        assert not alive(first)
        assert any("of 200 MiB and was killed" in line for line in lines)


async def test_child_over_its_memory_cap_while_loading_is_unavailable(bundled_model: Path, tmp_path: Path) -> None:
    options = LocalOptions(memory=200 << 20)
    async with running(options, "unavailable", environ=scripted(tmp_path, "large")) as (engine, _):
        assert "capped at 200 MiB" in engine.reason
        assert engine.code == "memory"


async def test_child_with_a_blocked_main_loop_is_killed(bundled_model: Path, tmp_path: Path) -> None:
    async with running(timing=Timing(check_interval_s=0.1, hung_after_s=0.5), environ=scripted(tmp_path, "mute")) as (engine, _):
        await until(lambda: engine.causes["hung"] >= 1)


async def test_child_that_computes_forever_is_killed(bundled_model: Path, tmp_path: Path) -> None:
    async with running(
        timing=Timing(check_interval_s=0.1, hung_after_s=0.2, busy_hung_after_s=1.5), environ=scripted(tmp_path, "spin")
    ) as (engine, lines):
        await until(lambda: engine.causes["hung"] >= 1)
        assert any("did not answer for" in line for line in lines)


async def test_model_larger_than_the_memory_cap_is_unavailable(bundled_model: Path) -> None:
    async with running(LocalOptions(slots=1, context=256, memory=64 << 20), "unavailable") as (engine, _):
        assert "capped at 64 MiB" in engine.reason
        assert engine.code == "memory"


async def test_model_that_cannot_be_read_is_unavailable(bundled_model: Path) -> None:
    async with running(LocalOptions(model="/proc/self/mem"), "unavailable") as (engine, _):
        assert "cannot be read" in engine.reason
        assert engine.code == "bad_model"


async def test_missing_model_is_unavailable_and_callers_see_no_path(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.gguf")
    async with running(LocalOptions(model=missing), "unavailable") as (engine, _):
        assert engine.reason == f"no model file at {missing}"
        refused = await engine.admit(wait=5)
        assert isinstance(refused, Failure)
        assert (refused.status, refused.code) == (503, "model_unavailable")
        assert str(tmp_path) not in refused.message


@pytest.mark.parametrize("damage", ["cut", "junk", "other"])
async def test_bad_model_is_unavailable_with_a_reason(bundled_model: Path, tmp_path: Path, damage: str) -> None:
    bad = tmp_path / "bad.gguf"
    with bundled_model.open("rb") as file:
        good = file.read(20 << 20)
    bad.write_bytes({"cut": good, "junk": b"GGUF" + bytes(range(256)) * 40, "other": b"PK\3\4 not a model"}[damage])
    async with running(LocalOptions(model=str(bad)), "unavailable") as (engine, lines):
        assert str(bad) in engine.reason
        assert {"cut": "corrupted or incomplete", "junk": "failed to load", "other": "not a GGUF file"}[damage] in engine.reason
        assert len(lines[-1].splitlines()) == 1


async def test_unavailable_engine_starts_once_its_model_is_there(bundled_model: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.gguf"
    options = LocalOptions(model=str(late), slots=1, context=256)
    async with running(options, "unavailable", timing=Timing(check_interval_s=0.05)) as (engine, _):
        late.symlink_to(bundled_model)
        await until(lambda: engine.state == "ready")


async def test_processor_without_avx2_is_unavailable(bundled_model: Path) -> None:
    async with running(expected="unavailable", missing_feature=lambda: "AVX2") as (engine, _):
        assert "AVX2" in engine.reason
        assert engine.code == "processor"
        assert engine.pid is None


async def test_engine_that_is_not_installed_is_unavailable(bundled_model: Path, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no such engine here')")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    async with running(expected="unavailable", environ=variables) as (engine, _):
        assert "xllamacpp cannot be imported" in engine.reason
        assert engine.code == "not_installed"


async def test_failed_start_is_retried_with_backoff(bundled_model: Path, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("import os; os.write(2, b'GGML_ASSERT(x) failed\\n'); os.abort()")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    lines: list[str] = []
    engine = Engine(SHORT, report=lines.append, environ=variables, timing=Timing(backoff_s=0.01))
    await engine.start()
    try:
        await until(lambda: engine.causes["start"] >= 4)
    finally:
        await engine.stop()
    pauses = [float(line.rpartition(" in ")[2].removesuffix(" s")) for line in lines if "restarting in" in line]
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.08]
    assert any("SIGABRT (GGML_ASSERT(x) failed)" in line for line in lines)


async def test_calls_wait_for_a_starting_engine_and_are_refused_beyond_the_queue(bundled_model: Path) -> None:
    engine = Engine(LocalOptions(slots=1, context=256, queue=1))
    await engine.start()
    try:
        assert (await engine.admit()) == engine.failure()
        waiting = [asyncio.create_task(engine.admit(wait=60)) for _ in range(3)]
        got = await asyncio.gather(*waiting)
        refused = [item for item in got if isinstance(item, Failure)]
        leases = [item for item in got if isinstance(item, Lease)]
        assert [item.code for item in refused] == ["engine_overloaded"]
        assert refused[0].retry_after is not None
        assert refused[0].retry_after >= 1
        assert (engine.gate.running, engine.gate.waiting) == (1, 1)
        for lease in leases:
            lease.release()
            lease.release()
        assert engine.gate.used == 0
    finally:
        await engine.stop()


async def test_cancelled_wait_frees_its_place(bundled_model: Path) -> None:
    engine = Engine(SHORT)
    await engine.start()
    try:
        waiting = asyncio.create_task(engine.admit(wait=60))
        await asyncio.sleep(0)
        assert engine.gate.used == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.gate.used == 0
    finally:
        await engine.stop()


async def test_stop_ends_the_child_and_removes_its_socket(bundled_model: Path) -> None:
    async with running() as (engine, _):
        pid, folder = engine.pid, Path(engine.socket).parent
        async with client_of(engine) as client:
            body = {**HELLO, "max_tokens": 200, "stream": True, "ignore_eos": True}
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                await anext(response.aiter_bytes())
                await engine.stop()
    assert not alive(pid)
    assert not folder.exists()
    assert engine.state == "stopped"


async def test_child_exits_and_removes_its_socket_when_its_parent_is_killed(bundled_model: Path, tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from providers.local.supervisor import Engine\n"
        "from providers.local.options import LocalOptions\n"
        "async def main():\n"
        "    engine = Engine(LocalOptions(slots=1, context=256))\n"
        "    await engine.start()\n"
        "    await engine.settled(60)\n"
        "    print(engine.pid, engine.socket, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    pid, socket = (await parent.stdout.readline()).decode().split()
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(int(pid)))
    await until(lambda: not Path(socket).parent.exists())
