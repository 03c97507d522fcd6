"""The default command. This module is imported first, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence


def runs_serve(args: Sequence[str]) -> bool:
    """Return whether the arguments run `serve`: they name it, or name no command."""
    return not args or args[0] == "serve" or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version"))
