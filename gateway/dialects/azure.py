"""Azure's paths, which name the model: `/openai/deployments/NAME/chat/completions?api-version=...`.

Source: openai 2.x, AzureOpenAI.
"""

from __future__ import annotations

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
    """Set the model of a request to its deployment.

    As with Azure, `model` in the body has no effect: clients with a fixed deployment may send any text as `model`
    (openai-python, examples/azure.py: `model="<ignored>"`).
    """
    body.set("model", deployment)
