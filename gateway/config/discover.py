"""Settings of `discover`, which makes the models that a provider lists callable without entries under `models`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from gateway.config.field_types import Duration


class DiscoverConfig(Struct, frozen=True):
    """Models that a provider lists. Callers can use them without entries under `models`."""

    enabled: Annotated[bool, Meta(description="Whether the list of models is read.", examples=[True])] = True
    pattern: Annotated[
        Annotated[str, Meta(pattern=r"^[^*]*\*[^*]*$")] | None,
        Meta(
            description="Names under which callers use the models; `*` stands for the name at the provider. Default: `PROVIDER/*`.",
            examples=["box-*"],
        ),
    ] = field(default=None, name="as")
    only: Annotated[
        tuple[str, ...],
        Meta(
            description="Names and prefixes (`llama-*`) of the models to use, as the provider lists them. Default: all.",
            examples=[["llama-*"]],
        ),
    ] = ()
    every: Annotated[Duration, Meta(description="Time between two requests for the list.", examples=["1m"])] = 300.0

    def name_for(self, provider: str, model: str) -> str:
        """Return the name under which callers use a model of the provider."""
        return (self.pattern or f"{provider}/*").replace("*", model)

    def model_for(self, provider: str, name: str) -> str | None:
        """Return the provider's name for the model that callers call `name`, or None if there can be no such model."""
        start, _, end = (self.pattern or f"{provider}/*").partition("*")
        model = name[len(start) : len(name) - len(end)]
        is_match = bool(model) and len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end)
        return model if is_match and self.takes(model) else None

    def models_for(self, provider: str, allowed: str) -> str | None:
        """Return the provider's name for the model that `allowed` names, or `*` if `allowed` is a prefix.

        Return None if there can be no such model.
        """
        start = (self.pattern or f"{provider}/*").partition("*")[0]
        if allowed.endswith("*") and (allowed[:-1].startswith(start) or start.startswith(allowed[:-1])):
            return "*"
        return self.model_for(provider, allowed)

    def takes(self, model: str) -> bool:
        """Return whether `only` allows the model."""
        return not self.only or any(model.startswith(each[:-1]) if each.endswith("*") else model == each for each in self.only)
