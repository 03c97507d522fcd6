"""The body of a request: a JSON object whose values keep their bytes until they change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from providers.value_hash import ValueHash, value_hash

MAX_PLAIN_BYTES = 16 << 10
"""Maximum size of a list of messages whose texts are decoded at once. Longer lists keep their bytes, which take less memory."""

MAX_SMALL_BYTES = 256
"""Maximum size of a value whose decoded form is kept until the end of the call."""


class PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that consists of a role and a text only."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


_NULL = msgspec.Raw(b"null")
_FILLED = frozenset(opening + following for opening in (b"[", b"{") for following in (b"{", b"[", b'"'))
"""The first two bytes of lists and objects that are not empty. Others may be, because white space may follow the first byte."""
_NOT_READ: list[PlainMessage] = []
"""In place of the plain messages of a body whose messages have not been read."""
_decode_plain = msgspec.json.Decoder(list[PlainMessage]).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Body:
    """A JSON object that keeps the exact bytes of each top-level value until the value changes.

    An unchanged body encodes to its source bytes. A changed body encodes the changed values again and copies the bytes of
    the others, in the original order. Values are decoded on demand and cached.
    """

    __slots__ = ("_has_large", "_hashes", "_is_partial", "_plain", "_raw", "_source", "_values", "headers", "places")

    def __init__(self, source: bytes) -> None:
        """Parse `source`. Raise msgspec.DecodeError if the source is not JSON, and ValidationError if it is not a JSON object."""
        self._source: bytes | None = source
        self._raw: dict[str, Any] = _decode_raw(source)
        self._values: dict[str, Any] = {}
        self._has_large = False
        """Whether large values have been decoded."""
        self._is_partial = False
        """Whether large values have been dropped."""
        self._plain: list[PlainMessage] | None = _NOT_READ
        self._hashes: dict[str, tuple[msgspec.Raw, ValueHash]] | None = None
        """Values and their hashes, by key."""
        self.headers: dict[str, str] = {}
        """Values that rules moved out of the body, by header name (lower case)."""
        self.places: Sequence[Any] | None = None
        """The places of the body's messages, if rules moved them: see `providers.rules.places`."""

    @classmethod
    def of(cls, fields: dict[str, msgspec.Raw]) -> Body:
        """Return a body with these fields, whose values must be valid JSON."""
        body = cls.__new__(cls)
        body._source, body._raw, body._values = None, fields, {}
        body._has_large = body._is_partial = False
        body._plain, body._hashes, body.headers, body.places = _NOT_READ, None, {}, None
        return body

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def has_any(self, names: frozenset[str]) -> bool:
        """Return whether any of these keys is present. For rare keys, this takes one step instead of one for each."""
        return not names.isdisjoint(self._raw)

    def items(self) -> Iterator[tuple[str, msgspec.Raw]]:
        """Iterate over keys and their JSON bytes. Call this method only before the first change."""
        return iter(self._raw.items())

    @property
    def compact_size(self) -> int:
        """The bytes of the body without spaces, if its keys are ASCII without escape sequences. Read it only before the first change."""
        raw = self._raw
        return 1 + 4 * len(raw) + sum(map(len, raw)) + sum(map(len, raw.values()))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the decoded value, or `default` if the key is absent. The value is read-only: change it with `set`."""
        values = self._values
        if name in values:
            return values[name]
        if (raw := self._raw.get(name)) is None:
            return default
        if type(raw) is not msgspec.Raw:
            values[name] = raw
            return raw
        if len(raw) > MAX_SMALL_BYTES:
            self._has_large = True
        value = values[name] = _decode_any(raw)
        return value

    def is_true(self, name: str) -> bool:
        """Return whether the value is present and neither null, false, 0 nor empty. A large list or object is not decoded for that."""
        raw = self._raw.get(name)
        if type(raw) is msgspec.Raw and len(raw) > MAX_SMALL_BYTES and name not in self._values and bytes(memoryview(raw)[:2]) in _FILLED:
            return True
        return bool(self.get(name))

    def key_of(self, names: Iterable[str]) -> tuple[ValueHash | None, ...] | None:
        """Return a key of the values of these fields, the same for the same bytes. Return None if a value has changed or none is large."""
        key: list[ValueHash | None] = []
        has_large = False
        for name in names:
            raw = self._raw.get(name)
            if raw is None:
                key.append(None)
            elif type(raw) is not msgspec.Raw:
                return None
            elif len(raw) > MAX_SMALL_BYTES:
                has_large = True
                key.append(self._hash_of(name, raw))
            else:
                key.append(bytes(raw))
        return tuple(key) if has_large else None

    def _hash_of(self, name: str, raw: msgspec.Raw) -> ValueHash:
        if self._hashes is None:
            self._hashes = {}
        known = self._hashes.get(name)
        if known is None or known[0] is not raw:
            known = self._hashes[name] = raw, value_hash(bytes(raw))
        return known[1]

    def raw(self, name: str) -> bytes | None:
        """Return the value's JSON bytes, or None if the key is absent."""
        if (value := self._raw.get(name)) is None:
            return None if name not in self._raw else b"null"
        return bytes(value) if type(value) is msgspec.Raw else _encode(value)

    def plain_messages(self) -> list[PlainMessage] | None:
        """Return the messages of a short conversation of plain texts. Return None for all other conversations.

        The messages are read once: their check, the provider's rules and the count of their tokens use the same list.
        """
        if self._plain is _NOT_READ:
            raw = self._raw.get("messages")
            self._plain = None
            if type(raw) is msgspec.Raw and len(raw) <= MAX_PLAIN_BYTES:
                try:
                    self._plain = _decode_plain(raw) or None
                except msgspec.DecodeError:  # other messages, or a text that cannot be decoded
                    return None
        return self._plain

    def set(self, name: str, value: Any) -> None:
        """Change or add a key. A changed key keeps its position."""
        self._source, self._plain = None, _NOT_READ
        self._raw[name] = _NULL if value is None else value
        self._values[name] = value

    def pop(self, name: str) -> Any:
        """Remove a key and return its decoded value, or None if the key is absent."""
        if name not in self._raw:
            return None
        value = self.get(name)
        self._source, self._plain = None, _NOT_READ
        del self._raw[name]
        self._values.pop(name, None)
        return value

    def drop_nulls(self) -> list[str]:
        """Remove the keys whose value is null, which OpenAI's API treats as absent. Return their names."""
        if _NULL not in self._raw.values():
            return []
        nulls = [name for name, raw in self._raw.items() if raw == _NULL]
        for name in nulls:
            self.pop(name)
        return nulls

    def rename(self, old: str, new: str) -> None:
        """Move a value's bytes to another key."""
        self._source, self._plain = None, _NOT_READ
        self._raw[new] = self._raw.pop(old)
        if old in self._values:
            self._values[new] = self._values.pop(old)

    def copy(self) -> Body:
        """Return an independent copy. Values are shared, because they are read-only."""
        body = Body.__new__(Body)
        body._source = self._source
        body._raw = self._raw.copy()
        body._values = self._values.copy()
        body._has_large = self._has_large
        body._is_partial = self._is_partial
        body._plain = self._plain
        body._hashes = self._hashes
        body.headers = self.headers.copy()
        body.places = self.places
        return body

    def forget_values(self) -> None:
        """Free the memory of large decoded values that have not changed. Such values are decoded again when they are needed."""
        self._plain = _NOT_READ
        if self._has_large:
            raw, self._has_large = self._raw, False
            self._values = {name: value for name, value in self._values.items() if type(raw.get(name)) is not msgspec.Raw}

    def drop_large(self) -> None:
        """Drop the source and the unchanged values of more than MAX_SMALL_BYTES. The body cannot be encoded afterwards."""
        raw = {
            name: value.copy() if type(value) is msgspec.Raw else value  # the copy does not refer to the source
            for name, value in self._raw.items()
            if type(value) is not msgspec.Raw or len(value) <= MAX_SMALL_BYTES
        }
        self._values = {name: value for name, value in self._values.items() if name in raw}
        self._raw, self._source, self._plain, self._hashes = raw, None, None, None
        self._has_large, self._is_partial = False, True

    def encode(self) -> bytes:
        """Return the JSON bytes: the source itself if nothing has changed. Raise RuntimeError after `drop_large`."""
        if self._is_partial:
            raise RuntimeError("a part of the request has been dropped")
        if self._source is None:
            self._source = _encode(self._raw)
        return self._source
