"""Azure OpenAI, with both of its APIs. Sources: openai 3.52.0 (AzureOpenAI), azure-ai-docs.

`base_url` is https://RESOURCE.openai.azure.com/openai/v1, or with `api: classic` https://RESOURCE.openai.azure.com/openai.
The name of a deployment does not identify its model. `base_model` names the model, so that the rules of reasoning models can apply.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from msgspec import Meta, structs

from providers.base import Body, Target
from providers.openai import CHAT_ONLY, OPENAI_RULES, RESPONSES_PATHS, RESPONSES_RULES, WAYS
from providers.openai_compatible import Wire, base_path
from providers.responses_wire.provider import OpenAI, OpenAISettings

FIRST_RESPONSES_VERSION = "2025-03-01"
"""The first version of the classic API that has the Responses API (azure-ai-docs: 2025-03-01-preview)."""


class AzureSettings(OpenAISettings, frozen=True, forbid_unknown_fields=True):
    """Settings of Azure."""

    api: Annotated[
        Literal["v1", "classic"],
        Meta(
            description="`v1`: the deployment is the model of the request. `classic`: it is part of "
            "the path, and `api_version` is required.",
            examples=["classic"],
        ),
    ] = "v1"
    api_version: Annotated[
        str | None,
        Meta(
            description="Version of the classic API, a date.",
            examples=["2024-10-21"],
        ),
    ] = None
    auth: Annotated[
        Literal["api-key", "bearer"],
        Meta(
            description="Form in which the credential is sent: the key of a resource (`api-key`), or an Entra token (`bearer`).",
            examples=["bearer"],
        ),
    ] = "api-key"
    base_model: Annotated[
        str | None,
        Meta(
            description="OpenAI model behind the deployments of this provider. It determines the parameter rules.",
            examples=["gpt-4o"],
        ),
    ] = None

    def __post_init__(self) -> None:
        """For the classic API, require `api_version` and have calls of the Responses API translated."""
        if self.api == "classic" and not self.api_version:
            raise ValueError("api: classic requires an api_version, such as 2024-10-21")
        if self.api == "classic":
            structs.force_setattr(self, "native_responses", False)


class Azure(OpenAI):
    """Azure's addresses and credentials."""

    def model_for_rules(self, target: Target) -> str:
        """Return the model behind the deployment if `base_model` names it, and otherwise the deployment."""
        return str(target.options.get("base_model") or target.model)

    def authorization(self, target: Target) -> list[tuple[str, str]]:
        """Return the header with the credential: `api-key`, or a bearer token."""
        if not target.credential:
            return []
        if target.options.get("auth") == "bearer":
            return [("authorization", f"Bearer {target.credential}")]
        return [("api-key", target.credential)]

    def path(self, target: Target, operation: str) -> str:
        """Return the path of the deployment in the classic API, otherwise OpenAI's path."""
        if target.options.get("api") != "classic":
            return super().path(target, operation)
        deployment, version = quote(target.model, safe=""), quote(str(target.options.get("api_version")), safe="")
        return f"{base_path(target.base_url)}/deployments/{deployment}{self.wire.paths[operation]}?api-version={version}"

    def models_path(self, base: str) -> str | None:
        """Return None, because Azure's list has the models of the region, not the deployments that requests name."""
        return None

    def takes_responses(self, body: Body, target: Target) -> bool:
        """Return whether a chat completion is sent through the Responses API.

        The result is False for older versions of the classic API, which lack the Responses API, unless the configuration requires the
        Responses API.
        """
        options = target.options
        is_auto, is_classic = options.get("upstream_api", "auto") == "auto", options.get("api") == "classic"
        if is_auto and is_classic and str(options.get("api_version")) < FIRST_RESPONSES_VERSION:
            return False
        return super().takes_responses(body, target)

    def responses_path(self, target: Target) -> str:
        """Return the path, which does not contain the deployment: in both APIs, the request's `model` names the deployment."""
        path = super().responses_path(target)
        if target.options.get("api") != "classic":
            return path
        return f"{path}?api-version={quote(str(target.options.get('api_version')), safe='')}"


AZURE = Azure(
    "azure",
    Wire(
        label="Azure OpenAI",
        base_url=None,
        options=AzureSettings,
        paths=RESPONSES_PATHS,
        chat_only=CHAT_ONLY,
        accepts_nulls=True,
        allows_empty_answers=True,
        source="openai 3.52.0, azure-ai-docs",
    ),
    OPENAI_RULES,
    WAYS,
    {"responses": RESPONSES_RULES},
)
