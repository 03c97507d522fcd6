"""A child process with the library of the encodings, for texts that are long or need many steps, and for token ids.

Loading an encoding takes 64 MB and half a second, during which no other thread of the same process runs. The child process starts
with the first request and ends with its parent.
"""

from __future__ import annotations

import select
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from typing import Any

import msgspec

from gateway.tokens.encodings import Encoding
from gateway.tokens.ids import UnknownIdError
from gateway.tokens.tokenizer_child import read_frame, write_frame

COMMAND = (sys.executable, "-m", "gateway.tokens.tokenizer_child")


MAX_WAIT_S = 30.0
"""Maximum time for one request. Counting a prompt of 32 MiB takes at most 6 s."""


class TokenizerProcess:
    """The client of the process. Its methods block, so they are called in threads."""

    def __init__(self, command: tuple[str, ...] = COMMAND, max_wait_s: float = MAX_WAIT_S) -> None:
        self._command = command
        self._max_wait_s = max_wait_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def count(self, tokenizer: Encoding, texts: list[str]) -> list[int]:
        """Count the tokens of each text. Raise ImportError if the tokenizer is unusable."""
        counts: list[int] = self.ask("count", tokenizer, [text.encode(errors="replace") for text in texts])
        return counts

    def ask(self, operation: str, tokenizer: Encoding, argument: Any) -> Any:
        """Return the result of an operation of the process.

        Raise UnknownIdError for an unknown id, and ImportError if the process or the tokenizer is unusable.
        """
        try:
            request = msgspec.msgpack.encode((operation, tokenizer.name, tokenizer.file, argument))
        except OverflowError:  # an id that is larger than those of any tokenizer
            raise UnknownIdError(next(at for at, id in enumerate(argument) if not -1 << 63 <= id < 1 << 63)) from None
        with self._lock:
            for _ in range(2):  # a process that was killed is started again
                process = self._process or self._start()
                try:
                    assert process.stdin is not None
                    write_frame(process.stdin, request)
                    assert process.stdout is not None
                    is_answered = select.select([process.stdout], [], [], self._max_wait_s)[0]
                    answer = read_frame(process.stdout) if is_answered else None
                except OSError:
                    answer = None
                if answer is not None:
                    break
                self.stop()
            else:
                raise ImportError("the tokenizer process does not respond")
        kind, result = msgspec.msgpack.decode(answer)
        if kind == "unknown":
            raise UnknownIdError(result)
        if kind != "ok":
            raise ImportError(result)
        return result

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._process = process
        weakref.finalize(self, _end, process)
        return process

    def stop(self) -> None:
        """End the process if it is running. A later operation starts it again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the input of the process, which makes it exit."""
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
