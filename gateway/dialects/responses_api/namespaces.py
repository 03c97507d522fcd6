"""Namespaces of tools: groups whose tools become single tools of a chat completion, with the namespace in their names."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

MAX_NAME_CHARS = 64
"""Maximum length of a function's name that every provider accepts."""
_KEPT_CHARS = 55


class Member(NamedTuple):
    """A tool of a namespace."""

    namespace: str
    name: str

    @property
    def flat_name(self) -> str:
        """The name in a chat completion. A long name ends in a hash."""
        joined = f"{self.namespace}__{self.name}"
        if len(joined) <= MAX_NAME_CHARS:
            return joined
        return f"{joined[:_KEPT_CHARS]}_{hashlib.sha256(joined.encode()).hexdigest()[:8]}"
