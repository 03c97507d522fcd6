"""Values from outside the YAML: ${NAME} from the environment, file:PATH from a file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

MAX_SECRET_BYTES = 64 << 10

_VARIABLE = re.compile(
    r"\$(?P<escaped>\$(?=\{))|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-[^}]*)?\}|(?P<broken>\$\{)"
)


class AbsentError(ValueError):
    """A variable is not set, or a file does not exist; both may exist on another machine. `what` names the variable or the file."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what + advice)
        self.what = what


class Secret:
    """A credential that is never printed: only `reveal()` returns the value. `path` is the file that contains the credential, if any."""

    __slots__ = ("_value", "path")

    def __init__(self, value: str, path: Path | None = None) -> None:
        self._value = value
        self.path = path

    def reveal(self) -> str:
        """Return the value. Send it to the server that requires it, but never log or display it."""
        return self._value

    def reread(self) -> Secret:
        """Read the file again, and return the secret in it.

        If there is no file, return this secret. Raise ValueError if the file is unusable.
        """
        return self if self.path is None else read_secret(self.path)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Url(str):
    """A URL whose repr hides the password. `path` is the file that contains the URL, if any."""

    path: Path | None = None

    def __repr__(self) -> str:
        return repr(re.sub(r"//[^/@]*@", "//***@", self))


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return the text with variables inserted: ${NAME}, ${NAME:-default}; `$${` stands for `${`.

    Raise AbsentError if a variable is not set, and ValueError if a variable is written incorrectly.
    """
    if "${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["broken"]:
            raise ValueError("a variable must be written as ${NAME} or ${NAME:-default}")
        variable = environ.get(match["name"])
        if match["fallback"] is not None:
            return variable or match["fallback"][2:]
        if variable is None:
            what = f"the environment variable {match['name']} is not set"
            raise AbsentError(what, f": set it, or write ${{{match['name']}:-default}}")
        return variable

    return _VARIABLE.sub(value, text)


def read_secret(path: Path, written: str = "") -> Secret:
    """Return the secret in a file: its whole content without line breaks at the beginning and end.

    Raise AbsentError if the file does not exist, and ValueError if it is unusable. If `written` contains variables, error
    messages show `written` instead of the path: a variable may hold the secret by mistake.
    """
    shown = written if "${" in written else str(path)
    try:
        check_permissions(path, shown)
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except FileNotFoundError as error:
        raise AbsentError(f"cannot read {shown}: {error.strerror}") from None
    except OSError as error:
        raise ValueError(f"cannot read {shown}: {error.strerror}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"{shown} is too large for a secret (more than {MAX_SECRET_BYTES >> 10} KiB)")
    try:
        value = data.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{shown} is not UTF-8 text") from None
    check_secret(value, shown)
    return Secret(value, path)


def check_secret(value: str, source: str) -> None:
    """Raise ValueError if `value` cannot be a credential. The message contains the source, not the value."""
    if not value:
        raise ValueError(f"{source} is empty")
    if value != value.strip() or not all(" " <= letter <= "~" for letter in value):
        raise ValueError(f"{source} has surrounding spaces, line breaks or characters that are not allowed in a header: remove them")


def check_permissions(path: Path, shown: str) -> None:
    """Raise ValueError for a path that is not a file, and for a file that every user of the machine can read or write.

    Raise OSError if the file is inaccessible. Readable files that this process cannot chmod are allowed: Docker and
    Kubernetes mount secrets as root, with mode 0444.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{shown} is not a file")
    if status.st_mode & stat.S_IWOTH:
        raise ValueError(f"{shown} is world-writable: run chmod 600 {shown}")
    mounted = str(path.resolve()).startswith(("/run/secrets/", "/var/run/secrets/"))
    if status.st_mode & stat.S_IROTH and status.st_uid == os.geteuid() and not mounted:
        raise ValueError(f"{shown} is world-readable: run chmod 600 {shown}")
