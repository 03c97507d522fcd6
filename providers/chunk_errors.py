"""Recognizes chunks that report an error, and values that are not chunks."""

from __future__ import annotations

from typing import Any


def has_readable_choices(chunk: Any) -> bool:
    """Return whether a chunk is an object whose choices, if there are any, are objects or null."""
    if type(chunk) is not dict:
        return False
    choices = chunk.get("choices")
    return all(choice is None or type(choice) is dict for choice in (choices if type(choices) is list else (choices,)))


def drop_empty_errors(chunk: dict[str, Any]) -> bool:
    """Remove an empty `error`, such as {}, from a chunk and its choices. Return whether there was one.

    OpenAI's client for Node would raise an exception for it.
    """
    choices = chunk.get("choices")
    changed = False
    for part in (chunk, *(choices if type(choices) is list else ())):
        if type(part) is dict and not part.get("error") and part.get("error") is not None:
            del part["error"]
            changed = True
    return changed


def error_of(chunk: Any, event: str) -> Any:
    """Return an object with the error that a chunk reports (the chunk itself if possible), or None if it reports no error."""
    if type(chunk) is list:
        return chunk[0] if chunk and type(chunk[0]) is dict and chunk[0].get("error") else None
    if type(chunk) is not dict:
        return None
    if chunk.get("error") or chunk.get("object") == "error" or (event == "error" and not chunk.get("choices")):
        return chunk
    choices = chunk.get("choices")
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict and choice.get("error"):
            return {"error": choice["error"]}
    if not choices and type(chunk.get("message")) is str and (chunk.get("code") or chunk.get("status_code")):
        return {"error": chunk}
    if not choices and type(chunk.get("detail")) is str:
        return {"error": {"message": chunk["detail"]}}  # the form of errors in FastAPI, which vLLM and others use
    return None
