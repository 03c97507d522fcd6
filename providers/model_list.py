"""Lists of models: OpenAI's `data` of objects with an `id`, a bare list of such objects (Together), or Cohere's `models` with a `name`."""

from __future__ import annotations

import msgspec

MAX_NAME_CHARS = 256


class _Model(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _List(msgspec.Struct):
    data: list[_Model] | None = None
    models: list[_Model] | None = None


_decode = msgspec.json.Decoder(_List | list[_Model]).decode


def read_model_names(body: bytes) -> list[str]:
    """Return the names in a list of models, each once, without those that cannot be part of a target's name.

    Raise ValueError if `body` is not a list of models.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("the response is not a list of models") from None
    models = found if isinstance(found, list) else found.data if found.data is not None else found.models
    if models is None:
        raise ValueError("the response is not a list of models")
    # Gemini's names begin with `models/`; Gemini's API also accepts names without this prefix
    names = [(model.id or model.name or "").removeprefix("models/") for model in models]
    return list(dict.fromkeys(filter(_is_usable, names)))


def _is_usable(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARS and name.isascii() and name.isprintable() and name == name.strip() and "*" not in name
