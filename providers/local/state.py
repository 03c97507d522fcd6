"""The engine's state, what a call is told in each, and the note of it that other processes read beside the socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from providers.base import Failure

State = Literal["starting", "ready", "restarting", "unavailable", "stopped"]


class Note(msgspec.Struct, frozen=True):
    """What a worker knows of an engine that another process supervises."""

    state: State
    reason: str


def failure_for(state: State) -> Failure:
    """Why a call cannot be, or was not, answered. Also for a connection that broke: the child crashed. Names no file of ours."""
    if state in ("unavailable", "stopped"):
        return Failure(
            "overloaded", "the local model is unavailable; the gateway's log says why", 503, "model_unavailable", retry_after=30.0
        )
    if state == "starting":
        return Failure("overloaded", "the local engine is loading its model", 503, "engine_loading", retry_after=1.0)
    return Failure("crashed", "the local engine crashed and is being restarted", 503, "engine_crashed", retry_after=1.0)


def write_note(socket: str, note: Note) -> None:
    """Put the note beside the socket, all at once."""
    path = _path(socket)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(note))
    os.replace(draft, path)


def read_note(socket: str) -> Note:
    """The note beside the socket; `stopped` when there is none."""
    try:
        return msgspec.json.decode(_path(socket).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return Note("stopped", "nobody supervises the engine")


def _path(socket: str) -> Path:
    return Path(socket).with_name("state.json")
