"""What an operator can set on the embedded engine: `providers: local: {model: /path/x.gguf, slots: 2}`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from providers.local import cpu

Path = Annotated[str, Meta(extra={"form": "path"})]
Size = Annotated[int, Meta(ge=1, extra={"form": "size"})]


class LocalOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine's settings. Everything has a default that suits the bundled model on a small machine."""

    model: Annotated[Path | None, Meta(description="A GGUF file; the bundled model when left out.")] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None, Meta(description="Cores that compute; all but one when left out, which stays ours.")
    ] = None
    slots: Annotated[int, Meta(ge=1, le=64, description="Calls that run at once; each has a context window of its own.")] = 4
    context: Annotated[int, Meta(ge=256, le=1 << 20, description="Tokens of one slot's context window.")] = 2048
    queue: Annotated[int, Meta(ge=0, le=4096, description="Calls that may wait for a slot; more are refused with 503.")] = 32
    memory: Annotated[
        Size | None, Meta(description="Memory at which the engine is restarted; twice the model's file and 1.5 GiB when left out.")
    ] = None
    system: Annotated[
        str | None, Meta(description="The system message of calls without one; null leaves that to the model's template.")
    ] = "You are a helpful assistant."
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None, Meta(description="For calls that say nothing about sampling; null: the engine's own.")
    ] = 0.0
    tools: Annotated[
        bool, Meta(description="The model's template knows tools, so it may choose to call one. The bundled one's does not.")
    ] = False

    @property
    def cores(self) -> int:
        """Threads to run with: two on two busy cores are slower than one."""
        return self.threads or max(1, cpu.usable_cores() - 1)

    def memory_cap(self, model_size: int) -> int:
        """Bytes the child may hold."""
        return self.memory or 2 * model_size + (3 << 29)
