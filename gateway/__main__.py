"""The entry point of the `lockgate` command."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from gateway.commands.default import runs_serve


def main() -> NoReturn:
    """Run the command of sys.argv and exit."""
    if runs_serve(sys.argv[1:]):
        # Ignored until the server handles it, because the default action would end the process. Set before the imports, which take longest.
        # Other commands end with their terminal.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        from gateway.commands.cli import run

        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # the reader closed the pipe; with stdout redirected, Python does not report this again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
