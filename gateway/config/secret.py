"""How values enter the YAML from outside: ${NAME} from the environment, file:PATH from a file of its own."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

MAX_SECRET_BYTES = 64 << 10

_VARIABLE = re.compile(r"\$(?P<escaped>\$(?=\{))|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-[^}]*)?\}|(?P<broken>\$\{)")


class Secret:
    """A credential that does not show itself: only `reveal()` gives the value. `path` is its file, when it has one."""

    __slots__ = ("_value", "path")

    def __init__(self, value: str, path: Path | None = None) -> None:
        self._value = value
        self.path = path

    def reveal(self) -> str:
        """The value, for the one place that sends it."""
        return self._value

    def reread(self) -> Secret:
        """The same secret as its file has it now; itself when it has no file. ValueError when the file cannot be used."""
        return self if self.path is None else read_secret(self.path)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Url(str):
    """An address whose repr hides the password in it, so that a printed Config has none. `path` is its file, when it has one."""

    path: Path | None = None

    def __repr__(self) -> str:
        return repr(re.sub(r"//[^/@]*@", "//***@", self))


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """`text` with ${NAME} and ${NAME:-default} filled in; `$${` stands for `${`. ValueError names a variable that is not set."""
    if "${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["broken"]:
            raise ValueError("a variable is written ${NAME} or ${NAME:-default}")
        found = environ.get(match["name"])
        if match["fallback"] is not None:
            return found or match["fallback"][2:]
        if found is None:
            raise ValueError(f"the environment variable {match['name']} is not set (a default is written ${{{match['name']}:-default}})")
        return found

    return _VARIABLE.sub(value, text)


def read_secret(path: Path, written: str = "") -> Secret:
    """The secret that is a file's whole content, without the newline at its end.

    ValueError says what is wrong with the file, by its path as `written` (a variable in it may hold the secret itself by mistake).
    """
    shown = written if "${" in written else str(path)
    try:
        check_permissions(path, shown)
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {shown}: {error.strerror}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"{shown} is too large for a secret")
    try:
        value = data.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{shown} is not UTF-8 text") from None
    check_secret(value, shown)
    return Secret(value, path)


def check_secret(value: str, source: str) -> None:
    """ValueError when `value` cannot be a credential; the message has its source, never itself."""
    if not value:
        raise ValueError(f"{source} is empty")
    if value != value.strip() or not all(" " <= letter <= "~" for letter in value):
        raise ValueError(f"{source} has blanks around it, line breaks or characters that no header can carry")


def check_permissions(path: Path, shown: str) -> None:
    """ValueError when a file with a secret is one that every user of the machine can read; OSError when it cannot be looked at.

    Files that are not ours to chmod (secrets that Docker or Kubernetes mount, owned by root and 0444) are left to their owner.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{shown} is not a file")
    if status.st_mode & stat.S_IWOTH:
        raise ValueError(f"everybody may write {shown} (chmod 600 {shown})")
    mounted = str(path.resolve()).startswith(("/run/secrets/", "/var/run/secrets/"))
    if status.st_mode & stat.S_IROTH and status.st_uid == os.geteuid() and not mounted:
        raise ValueError(f"everybody may read {shown} (chmod 600 {shown})")
