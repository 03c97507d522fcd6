"""Settings of the embedded engine: `providers: local: {model: /path/x.gguf, slots: 2}`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from providers.local import cpu

ENGINE_MODEL = "local"
"""The engine's name for its model, which all its answers contain."""
Bundled = Literal["smollm2-135m-instruct", "all-minilm-l6-v2"]
"""The models that `lockgate pull` downloads: one for chat and one for embeddings."""
EMBEDDING_MODELS: frozenset[str] = frozenset({"all-minilm-l6-v2"})
MINILM_CONTEXT = 512
"""Number of positions of all-MiniLM-L6-v2."""
Path = Annotated[str, Meta(extra={"form": "path"})]
Size = Annotated[int, Meta(ge=1, extra={"form": "size"})]


class LocalOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the embedded engine. The defaults suit the bundled model on a small machine."""

    model: Annotated[
        Path | None,
        Meta(description="Path of a GGUF file. Default: a bundled model.", examples=["/models/llama-3.2-1b.gguf"]),
    ] = None
    bundled: Annotated[
        Bundled,
        Meta(
            description="The bundled model that runs if `model` is not set: `smollm2-135m-instruct` for chat, or "
            "`all-minilm-l6-v2` for embeddings and rerank. It is downloaded at the first start.",
            examples=["all-minilm-l6-v2"],
        ),
    ] = "smollm2-135m-instruct"
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="Number of threads that run the model. Default: the number of cores minus one, but at least 1.", examples=[4]),
    ] = None
    slots: Annotated[
        int,
        Meta(ge=1, le=64, description="Number of calls that run at the same time. Each has its own context window.", examples=[2]),
    ] = 4
    context: Annotated[
        int,
        Meta(
            ge=256,
            le=1 << 20,
            description="Context window of one slot, in tokens; at most 512 for `all-minilm-l6-v2`.",
            examples=[4096],
        ),
    ] = 2048
    queue: Annotated[
        int,
        Meta(
            ge=0,
            le=4096,
            description="Maximum number of calls that wait for a slot. Further calls go to the next target or get 503.",
            examples=[8],
        ),
    ] = 32
    memory: Annotated[
        Size | None,
        Meta(
            description="Memory use at which the engine is restarted. Default: twice the size of the model file plus 1.5 GiB.",
            examples=["4GiB"],
        ),
    ] = None
    system: Annotated[
        str | None,
        Meta(
            description="System message for calls without one.",
            examples=["Answer in one sentence."],
        ),
    ] = "You are a helpful assistant."
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        Meta(description="Temperature of calls without sampling parameters.", examples=[0.7]),
    ] = 0.0
    tools: Annotated[
        bool,
        Meta(
            description="Whether the model's chat template supports tools. The bundled model's template does not.",
            examples=[True],
        ),
    ] = False

    def __post_init__(self) -> None:
        """Limit the context to that of an embedding model. Raise ValueError if `bundled` is an embedding model and `model` is set too."""
        if self.bundled not in EMBEDDING_MODELS:
            return
        if self.model is not None:
            raise ValueError("bundled has no effect beside model: remove one of the two")
        msgspec.structs.force_setattr(self, "context", min(self.context, MINILM_CONTEXT))

    @property
    def cores(self) -> int:
        """The number of threads. By default, one core stays free: two threads on two busy cores are slower than one."""
        return self.threads or max(1, cpu.usable_cores() - 1)

    def memory_cap(self, model_size: int) -> int:
        """Return the maximum number of bytes that the child may use."""
        return self.memory or 2 * model_size + (3 << 29)
