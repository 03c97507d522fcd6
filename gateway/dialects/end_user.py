"""The end user on whose behalf a call is made: from a header that the configuration names, or from the API's own field.

The APIs' own fields are `user` and `safety_identifier` (OpenAI's APIs) and `metadata.user_id` (Messages).
"""

from __future__ import annotations

from typing import Any

from gateway.errors import BadRequest, Headers, refuse
from providers.base import Body

FIELDS = ("user", "safety_identifier")
_FIELDS = frozenset(FIELDS)
MAX_USER_CHARS = 512


def end_user(body: Body | None, source: Body | None, headers: Headers, header: bytes | None) -> str:
    """Return the end user that a call names, or "". `source` is the request in the caller's own API.

    Spaces around the name are ignored, and a name without any visible character counts as absent, in the header and in the fields.
    The header takes precedence, because a platform in front of the gateway sets it. Raise BadRequest if the header is unusable.
    """
    if header is not None and (named := _in_header(headers, header)):
        return named
    for document in (body, source):
        if document is None or not document.has_any(_FIELDS):
            continue
        for field in FIELDS:
            if field in document and (named := _text(document.get(field))):
                return named
    if source is not None and "metadata" in source:
        metadata = source.get("metadata")
        return _text(metadata.get("user_id")) if isinstance(metadata, dict) else ""
    return ""


def check_required(user: str, header: bytes | None) -> None:
    """Raise BadRequest if a call whose key requires an end user names none."""
    if user:
        return
    named = f", or the header '{header.decode()}'" if header is not None else ""
    text = f"This key requires an end user: send 'user' or 'safety_identifier' (in the Messages API 'metadata.user_id'){named}."
    raise BadRequest(text, param="user", code="end_user_required")


def _in_header(headers: Headers, wanted: bytes) -> str:
    values = [value for name, value in headers if name == wanted]
    if not values:
        return ""
    param = wanted.decode()
    if len(values) > 1:
        raise refuse(param, f"Header '{param}' is repeated. Send it once.")
    try:
        user = values[0].decode().strip()
    except UnicodeDecodeError:
        raise refuse(param, f"Header '{param}' must be UTF-8 text.") from None
    if not user.isprintable() or len(user) > MAX_USER_CHARS:
        raise refuse(param, f"Header '{param}' must be printable text of at most {MAX_USER_CHARS} characters.")
    return user


def _text(value: Any) -> str:
    name = value.strip() if isinstance(value, str) else ""
    return name if name.isprintable() or any(map(str.isprintable, name.replace(" ", ""))) else ""
