"""The program of the child process that runs the model. It reads its settings as one JSON line from stdin.

It answers with one JSON line on stdout: `{"ready": true, ...}` once the unix socket accepts connections, or
`{"error": code, "message": text}` with exit code 1, where code is `not_installed`, `missing_model` or `bad_model`.
Then it reads stdin and exits at end of file, so it never outlives its parent. To start quickly, it imports nothing from the
gateway and is started by its path.

The engine logs to file descriptors 1 and 2 from C++. Descriptor 1 therefore becomes stderr, and the answer goes to a
duplicate of the original descriptor. The process would hang if it deleted a server object that is generating text, so it
exits with os._exit.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any, NoReturn

MEAN = 1
"""Pooling for chat models, whose files declare none."""
LOG_DELAY_S = 0.2
"""Wait before a failure is reported. llama.cpp logs the reason in a thread of its own, which os._exit ends at once."""


class ChildError(Exception):
    """The engine cannot run. The error has a code for the parent process and a one-line message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parameters(engine: Any, settings: dict[str, Any]) -> Any:
    """Return the engine's parameters for `settings`. Comments give the reasons for values other than the default."""
    params = engine.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = {settings["alias"]}
    params.hostnames = [settings["socket"]]  # a path makes the listener a unix socket
    params.port = 0
    params.n_ctx = settings["context"]
    params.n_parallel = settings["slots"]
    params.n_threads_http = settings["connections"]  # one thread per open stream: with fewer threads, health checks get none
    # A disconnect during a prompt is noticed between batches. An embedding model reads each text in one batch.
    params.n_batch = params.n_ubatch = settings["context"] // settings["slots"] if settings["pooling"] else 128
    params.fit_params = False  # the default loads the model twice to fit it to a GPU
    params.cache_ram_mib = 0  # by default, old prompts use up to 8 GiB
    params.embedding = True
    params.pooling_type = engine.llama_pooling_type(settings["pooling"] or MEAN)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.ui = False
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.verbosity = settings["verbosity"]
    return params


def serve(settings: dict[str, Any]) -> dict[str, Any]:
    """Load the model, start the listener, and return the answer for the parent process. Raise ChildError on failure."""
    model = settings["model"]
    if not os.path.isfile(model):
        raise ChildError("missing_model", f"no model file at {model}")
    try:
        with open(model, "rb") as file:
            opening = file.read(4)
    except OSError as error:
        raise ChildError("bad_model", f"{model} cannot be read: {error.strerror}") from None
    if opening != b"GGUF":
        raise ChildError("bad_model", f"{model} is not a GGUF file")
    try:
        import xllamacpp as engine  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ChildError("not_installed", f"xllamacpp cannot be imported: {error} (docs/installation.md)") from None
    try:
        serve.server = engine.Server(parameters(engine, settings))  # type: ignore[attr-defined]
    except (RuntimeError, MemoryError) as error:
        raise ChildError("bad_model", f"the engine cannot load {model}: {error}") from None
    return {"ready": True, "pid": os.getpid(), "socket": settings["socket"]}


def main() -> NoReturn:
    """Run until end of file on stdin, or until the start fails."""
    answer = os.dup(1)
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    code = 0
    try:
        reply = serve(settings)
    except ChildError as error:
        reply, code = {"error": error.code, "message": error.message}, 1
        time.sleep(LOG_DELAY_S)
    os.write(answer, json.dumps(reply).encode() + b"\n")
    if code == 0:
        sys.stdin.read()
        with contextlib.suppress(OSError):  # a parent that was killed cannot clean up
            folder = os.path.dirname(settings["socket"])
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
    os._exit(code)


if __name__ == "__main__":
    main()
