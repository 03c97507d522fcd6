"""What an operator can set on the embedded engine: `providers: local: {model: /path/x.gguf, slots: 2}`."""

from __future__ import annotations

import os
import re

import msgspec

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?\s*", re.IGNORECASE)


def size(text: str | int) -> int:
    """Bytes from `2GiB`, `512M` or a number; ValueError otherwise."""
    if isinstance(text, int):
        return text
    if match := _SIZE.fullmatch(text):
        return int(float(match[1]) * _UNITS[match[2].upper()])
    raise ValueError(f"{text!r} is not a size: write 2GiB or 512MiB")


class LocalOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine's settings. Everything has a default that suits the bundled model on a small machine."""

    model: str | None = None
    """A GGUF file; None is the bundled model."""
    threads: int | None = None
    """Cores that compute; None is all but one, which stays for the gateway."""
    slots: int = 4
    """Calls that run at once; each has a context window of its own."""
    context: int = 2048
    """Tokens of one slot's context window."""
    queue: int = 32
    """Calls that may wait for a slot; more are refused with 503."""
    memory: str | int | None = None
    """Most memory the engine may hold before it is restarted; None is twice the model's file and 1.5 GiB."""
    system: str | None = "You are a helpful assistant."
    """What the system message says when the caller sends none; None leaves that to the model's template."""
    temperature: float | None = 0.0
    """The temperature of calls that say nothing about sampling; None leaves it to the engine."""
    tools: bool = False
    """The model's template knows tools, so that it can choose whether to call one. The bundled model's does not."""

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        for name, low, high in (("threads", 1, 1024), ("slots", 1, 64), ("context", 256, 1 << 20), ("queue", 0, 4096)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, not {value}")
        if self.memory is not None and size(self.memory) <= 0:
            raise ValueError("memory must be more than nothing")

    @property
    def cores(self) -> int:
        """Threads to run with: two on two busy cores are slower than one."""
        return self.threads or max(1, _usable_cores() - 1)

    def memory_cap(self, model_size: int) -> int:
        """Bytes the child may hold."""
        return size(self.memory) if self.memory is not None else 2 * model_size + (3 << 29)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
