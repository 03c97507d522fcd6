"""The engine's state, the failure that it causes for a call, and the file from which other processes read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from providers.base import Failure

State = Literal["starting", "ready", "restarting", "unavailable", "stopped"]


class Note(msgspec.Struct, frozen=True):
    """The state of an engine that another process supervises."""

    state: State
    reason: str


def failure_for(state: State) -> Failure:
    """Return the failure of a call that the engine does not answer. The message contains no file paths.

    In the states `ready` and `restarting`, the failure is a crash of the engine.
    """
    if state in ("unavailable", "stopped"):
        return Failure("overloaded", "the local model is unavailable; see the gateway's log", 503, "model_unavailable", retry_after=30.0)
    if state == "starting":
        return Failure("overloaded", "the local engine is loading its model", 503, "engine_loading", retry_after=1.0)
    return Failure("crashed", "the local engine crashed and is being restarted", 503, "engine_crashed", retry_after=1.0)


def write_note(socket: str, note: Note) -> None:
    """Write the state to the file beside the socket, atomically."""
    path = _path(socket)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(note))
    os.replace(draft, path)


def read_note(socket: str) -> Note:
    """Read the file beside the socket. Without a valid file, the state is `stopped`."""
    try:
        return msgspec.json.decode(_path(socket).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return Note("stopped", "the engine is not supervised")


def _path(socket: str) -> Path:
    return Path(socket).with_name("state.json")
