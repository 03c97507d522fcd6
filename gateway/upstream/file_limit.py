"""The limit on open files of a process, and the number of connections to one address that it allows."""

from __future__ import annotations

import contextlib
import resource

FILES_KEPT = 512
"""Open files that are not connections of calls: the journal, the store, the admin listener, pipes of child processes."""
MIN_CONNECTIONS, MAX_CONNECTIONS = 1000, 100_000


def raise_file_limit() -> None:
    """Raise the limit of this process to the maximum that the system allows it, because each call needs two open files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses its own maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def affordable_connections() -> int:
    """Return the connections to one address that the limit allows: half of its files, as each call also has a caller."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, (limit - FILES_KEPT) // 2))
