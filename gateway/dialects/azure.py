"""Azure's paths, which name the model: `/openai/deployments/NAME/chat/completions?api-version=...`.

Source: openai 2.x, AzureOpenAI.
"""

from __future__ import annotations

from gateway.errors import refuse
from providers.base import Body

DEPLOYMENTS = "/openai/deployments/"
CHAT_PATH = "/chat/completions"
ENDINGS = (CHAT_PATH, "/completions", "/embeddings")
"""The paths below a deployment. The order matters: the first one with which the request's path ends applies."""


def deployment_of(path: str) -> str:
    """Return the deployment that a path names, or "" if it names none."""
    if not path.startswith(DEPLOYMENTS):
        return ""
    return next((path[len(DEPLOYMENTS) : -len(end)] for end in ENDINGS if path.endswith(end)), "")


def set_deployment(body: Body, deployment: str) -> None:
    """Set the model of a request to its deployment. Raise BadRequest if the body names another model."""
    model = body.get("model")
    if model is None:
        body.set("model", deployment)
    elif model != deployment:
        raise refuse("model", f"'model' is {str(model)[:100]!r}, but the path names the deployment {deployment[:100]!r}. Remove 'model'.")
