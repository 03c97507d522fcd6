"""The error for a model name that does not exist."""

from __future__ import annotations

from difflib import get_close_matches

from gateway.errors import NotFound

MAX_LISTED_MODELS = 12
"""Maximum number of model names in the message of a 404."""
MAX_COMPARED_MODELS = 1_000
"""Maximum number of models that are compared with an unknown name."""


def unknown_model(name: str, known: list[str]) -> NotFound:
    """Return a 404 that lists some models, and suggests a similar name, if any. The name in the request is truncated and escaped."""
    shown = name[:80].encode("ascii", "backslashreplace").decode()
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    by_word = {model.lower(): model for model in known[:MAX_COMPARED_MODELS]}
    suggestion = next((by_word[word] for word in get_close_matches(name[:80].lower(), by_word, n=1)), "")
    names = ", ".join(known[:MAX_LISTED_MODELS]) + (", ..." if len(known) > MAX_LISTED_MODELS else "")
    hint = f"Did you mean '{suggestion}'? " if suggestion else ""
    message = f"The model '{shown}' does not exist at this gateway. {hint}Available models: {names or 'none'}."
    return NotFound(message, param="model", code="model_not_found")
