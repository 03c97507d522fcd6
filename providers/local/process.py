"""The engine's process: started in its own session, observed through /proc, always reaped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from providers.local import child

INHERITED_VARIABLES = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
)
"""The only environment variables that the child inherits, besides LC_* and OMP_*. Credentials are not among them."""


LOG_REASON_PREFIXES = ("error loading model: ", "failed to initialize the context: ")
"""The text before the reason in the engine's log. The engine's exception contains no reason."""


class StartError(Exception):
    """The child did not become ready. `code` is sent by the child, or is `signal`, `exit` or `slow`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the child's environment. OpenMP threads wait passively: spinning slows a shared machine down by a factor of up to 30."""
    kept = {name: value for name, value in variables.items() if name in INHERITED_VARIABLES or name.startswith(("LC_", "OMP_"))}
    return {"OMP_WAIT_POLICY": "passive", **kept, "PYTHONUNBUFFERED": "1"}


class EngineProcess:
    """One run of the child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail: deque[str] = deque(maxlen=40)
        self._drain = asyncio.create_task(self._read_log(), name="engine-log")
        self.pid = process.pid

    @classmethod
    async def spawn(cls, settings: Mapping[str, Any], variables: Mapping[str, str]) -> EngineProcess:
        """Start the child, which loads the model while `ready` waits."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", child.__file__),
            stdin=pipe, stdout=pipe, stderr=pipe, env=environment(variables), start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(dict(settings)).encode() + b"\n")
        return cls(process)

    async def ready(self, timeout_s: float) -> None:
        """Wait for the child's answer. Raise StartError if the child is not ready."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise StartError("slow", f"the engine was not ready after {timeout_s:g} s") from None
        if not line:
            code = await self._process.wait()
            await self._drain
            raise StartError("signal" if code < 0 else "exit", f"the engine ended while starting: {self.ending()}")
        reply = json.loads(line)
        if "error" in reply:
            await self._process.wait()
            await self._drain
            raise StartError(reply["error"], self._explained(reply["message"]))

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """Close stdin and send SIGTERM, and send SIGKILL if the child still runs after `grace_s` seconds.

        Return when the child has been reaped.
        """
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        await self._process.wait()
        self._drain.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._drain

    def kill(self) -> None:
        """Send SIGKILL to the child's process group. This works on a stopped process too."""
        self._signal(signal.SIGKILL)

    def ending(self) -> str:
        """Return a description of how the process ended, with the last line of its log."""
        code = self._process.returncode
        if code is None:
            return "it is running"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{how} ({self._tail[-1]})" if self._tail else how

    def signalled(self, number: int) -> bool:
        """Return whether this signal ended the process."""
        return self._process.returncode == -number

    def memory(self) -> int | None:
        """Return the resident memory in bytes, or None if the system does not report it."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return None

    def cpu_seconds(self) -> float | None:
        """Return the processor time used so far, or None if the system does not report it."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return None

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # not reaped yet, so the process id is still valid
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _explained(self, message: str) -> str:
        """Return the child's message with the reason from the engine's log, if the log has one."""
        for line in self._tail:
            for words in LOG_REASON_PREFIXES:
                if reason := line.partition(words)[2]:
                    return f"{message.partition(': ')[0]}: {reason}"
        return message

    async def _read_log(self) -> None:
        """Keep the last lines of the log. Reading also keeps the pipe from filling up."""
        assert self._process.stderr is not None
        rest = b""
        while piece := await self._process.stderr.read(65536):
            *lines, rest = (rest + piece).split(b"\n")
            rest = rest[-4096:]
            self._tail.extend(text for line in lines if (text := line.decode(errors="replace").strip()[:500]))
        if last := rest.decode(errors="replace").strip():
            self._tail.append(last[:500])
