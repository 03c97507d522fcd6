"""The limit on the open files of a process, and the number of connections to one address that this limit allows."""

from __future__ import annotations

import contextlib
import resource

FILES_KEPT = 512
"""Open files reserved for the journal, the store, the admin listener and the pipes of child processes."""
MIN_FILES = 64
"""The smallest limit with which the gateway starts: an idle process has about 20 open files, and each call needs two more."""
MIN_CONNECTIONS, MAX_CONNECTIONS = 1000, 100_000


def raise_file_limit() -> None:
    """Raise the limit of this process to the maximum that the system allows: each call needs two open files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS rejects the maximum that it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def file_limit_problem() -> str | None:
    """Return the error for a limit that is too low to serve calls, or None."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= MIN_FILES:
        return None
    return f"lockgate: the limit on open files is {limit}, but at least {MIN_FILES} are needed: raise it with `ulimit -n {MIN_FILES}`"


def affordable_connections() -> int:
    """Return the number of connections to one address, from MIN_CONNECTIONS to MAX_CONNECTIONS.

    It is half of the unreserved files, because callers' connections need the other half.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, (limit - FILES_KEPT) // 2))
