"""Builds the configuration structs from a YAML tree by their types, and reports everything that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import inspect as mi

from gateway.config.files import Files
from gateway.config.formats import FORMATS
from gateway.config.mcp import STDIO_KEYS, STDIO_REFUSED
from gateway.config.node_shape import has_shape
from gateway.config.problem import Problems, join, shorten, suggest
from gateway.config.scalars import check_bounds, check_header, describe_type, read_scalar
from gateway.config.secret import AbsentError, Secret, Url, check_secret, expand_variables
from gateway.config.struct_types import Layout, layout_of, members, unwrap
from gateway.config.yamlfile import Mapping as MappingNode
from gateway.config.yamlfile import Node, Scalar, Sequence, describe_node

BAD: Any = object()
"""The result for an invalid value. Its problem has already been reported."""

SpecialReader: TypeAlias = Callable[[Node, str, str], Any]


class Reader:
    """Reads nodes into typed values.

    `special` has readers for structs that cannot be read by their types alone. If `absent` is given, variables and files
    that do not exist are added to it, and the keys that use them count as missing or get substitutes. Without `absent`, such
    variables and files are reported as problems.
    """

    def __init__(
        self,
        problems: Problems,
        environ: Mapping[str, str],
        folder: Path,
        files: Files | None = None,
        absent: Problems | None = None,
    ) -> None:
        self.problems = problems
        self.absent = absent
        self.files = files or Files()
        self.special: dict[type, SpecialReader] = {}
        self.read_ref: Callable[[Node, str], Any] | None = None
        """Reads a target or the name of a model. It is set for each model before its settings are read."""
        self._environ = environ
        self._folder = folder

    def text(self, node: Scalar, path: str) -> str | None:
        """Return the text of a scalar with variables inserted. If a variable is missing or malformed, report it and return None."""
        if "${" not in node.text:
            return node.text
        try:
            return expand_variables(node.text, self._environ)
        except ValueError as error:
            self._reject(node, path, error)
            return None

    def _reject(self, node: Node, path: str, error: Exception, shown: str = "") -> Any:
        """Report an error at `node`, with `shown` after its message, and return BAD."""
        if self.absent is not None and isinstance(error, AbsentError):
            self.absent.add(node.place, path, error.what)
            return BAD
        return self.reject(node, path, f"{error}{shown}")

    def read(self, node: Node, kind: mi.Type, path: str, name: str = "") -> Any:
        """Return the value of `node` as type `kind`, or BAD. `name` is the key of the entry that is read."""
        self.problems.remember(path, node)
        extra, kind = unwrap(kind)
        return self._typed(node, kind, extra, path, name)

    def _typed(self, node: Node, kind: mi.Type, extra: dict[str, Any], path: str, name: str = "") -> Any:
        """Read a value of a type whose metadata has the keys `extra`."""
        if isinstance(kind, mi.UnionType):
            return self._optional(node, kind, extra, path)
        if "form" in extra:
            return self._form(node, extra["form"], kind, path)
        if isinstance(kind, mi.StructType):
            special = self.special.get(kind.cls)
            return special(node, path, name) if special else self.struct(node, kind, path, name, extra.get("short"))
        if isinstance(kind, mi.DictType):
            return self._dict(node, kind, path)
        if isinstance(kind, mi.VarTupleType | mi.ListType):
            return self._list(node, kind, path)
        return self._leaf(node, kind, path)

    def _optional(self, node: Node, kind: mi.UnionType, extra: dict[str, Any], path: str) -> Any:
        """Read a union. None in a union stands for a missing key. The first type that fits is used."""
        others = members(kind)
        fitting = [each for each in others if has_shape(node, each)] if len(others) > 1 else others
        if len(fitting) == 1 or "form" in extra:  # the problems of the only fitting type are more precise
            own, inner = unwrap(fitting[0] if len(fitting) == 1 else others[0])
            return self._typed(node, inner, {**own, **extra}, path)
        absent = len(self.absent or ())
        for each in others:
            trial = Reader(Problems(self.problems.file), self._environ, self._folder, self.files, self.absent)
            value = trial.read(node, each, path)
            if value is not BAD and not len(trial.problems):
                return value
        if len(self.absent or ()) > absent:
            return BAD
        return self.reject(node, path, "expected " + " or ".join(describe_type(each) for each in others))

    def reject(self, node: Node, path: str, message: str) -> Any:
        """Report a problem at `node` and return BAD."""
        self.problems.add(node.place, path, message)
        return BAD

    def mapping(self, node: Node, path: str) -> MappingNode | None:
        """Return `node` as a mapping; an empty value is an empty mapping.

        Report anything else and return None.
        """
        if isinstance(node, Scalar) and node.null:
            return MappingNode(node.place, {})
        if not isinstance(node, MappingNode):
            self.reject(node, path, f"expected a mapping, got {describe_node(node)}")
            return None
        for key, place, line in node.repeated:
            self.problems.add(place, join(path, key), f"duplicate key, already set on line {line}: remove one of them")
        return node

    def struct(self, node: Node, kind: mi.StructType, path: str, name: str = "", short: str | None = None) -> Any:
        """Read a struct from a mapping, or from a scalar that sets the field named by `short`."""
        if short is not None and isinstance(node, Scalar) and not node.null:
            field = next(each for each in kind.fields if each.name == short)
            value = self.read(node, field.type, path)
            return BAD if value is BAD else _build(kind, {short: value}, name)
        if isinstance(node, Scalar) and node.null:
            return self.reject(node, path, "expected a mapping, got nothing: write {} to use all defaults")
        mapping = self.mapping(node, path)
        if mapping is None:
            return BAD
        layout = layout_of(kind)
        self.report_unknown_keys(mapping, path, layout.keys)
        values, _ = self._fields(mapping, layout, path)
        return _build(kind, values, name)

    def fields(self, mapping: MappingNode, kind: mi.StructType, path: str) -> tuple[dict[str, Any], bool]:
        """Return the values of a struct's fields by Python name, and whether every required field is valid.

        An invalid required field is None, so that later checks can run; a Config with a problem is never returned. A key
        without a value is a mistake (a forgotten limit would mean no limit), except for mappings of names to entries.
        """
        return self._fields(mapping, layout_of(kind), path)

    def _fields(self, mapping: MappingNode, layout: Layout, path: str) -> tuple[dict[str, Any], bool]:
        values: dict[str, Any] = {}
        for key, entry in mapping.entries.items():
            field = layout.keys.get(key)
            if field is None:
                continue
            where, node = join(path, key), entry.value
            is_missing = isinstance(node, Scalar) and node.null and not _may_be_empty(field.type)
            value = self._nothing(node, field, where) if is_missing else self.read(node, field.type, where)
            if value is not BAD:
                values[field.name] = value
        complete = True
        for key, field in layout.required:
            if field.name not in values:
                values[field.name], complete = None, False
                if key not in mapping.entries:
                    self.problems.add(mapping.place, join(path, key), "missing")
        return values, complete

    def _nothing(self, node: Node, field: mi.Field, path: str) -> Any:
        fix = "" if field.required else f": add a value, or remove '{field.encode_name}'"
        return self.reject(node, path, f"expected {describe_type(field.type)}, got nothing{fix}")

    def report_unknown_keys(self, mapping: MappingNode, path: str, known: Mapping[str, Any]) -> None:
        """Report keys that are not in `known`."""
        for key in () if mapping.entries.keys() <= known.keys() else mapping.entries.keys() - known.keys():
            entry = mapping.entries[key]
            is_stdio = path.startswith("mcp.") and key in STDIO_KEYS
            self.problems.add(entry.place, join(path, key), STDIO_REFUSED if is_stdio else "unknown key" + suggest(key, known))

    def _dict(self, node: Node, kind: mi.DictType, path: str) -> Any:
        mapping = self.mapping(node, path)
        if mapping is None:
            return BAD
        values = {}
        extra, value_type = unwrap(kind.value_type)
        for key, entry in mapping.entries.items():
            where = join(path, key)
            name = key[:1] + key[1:]  # a copy, because few remaining strings of the tree would keep most of its memory occupied
            self.problems.remember(where, entry.value)
            value = self._typed(entry.value, value_type, extra, where, name)
            if value is not BAD:
                values[name] = value
        return values

    def _list(self, node: Node, kind: mi.VarTupleType | mi.ListType, path: str) -> Any:
        if not isinstance(node, Sequence):
            return self.reject(node, path, f"expected a list, got {describe_node(node)}")
        values = [self.read(item, kind.item_type, f"{path}[{index}]") for index, item in enumerate(node.items)]
        if any(value is BAD for value in values):
            return BAD
        return values if isinstance(kind, mi.ListType) else tuple(values)

    def _leaf(self, node: Node, kind: mi.Type, path: str) -> Any:
        """Read text, a number, a boolean, one of several words, or any value if `kind` allows it."""
        if isinstance(kind, mi.AnyType) and not isinstance(node, Scalar):
            return self._any(node, kind, path)
        if not isinstance(node, Scalar) or (node.null and not isinstance(kind, mi.AnyType)):
            return self.reject(node, path, f"expected {describe_type(kind)}, got {describe_node(node)}")
        text = self.text(node, path)
        if text is None:
            return BAD
        try:
            return read_scalar(text, node, kind)
        except ValueError as error:
            return self.reject(node, path, str(error))

    def _any(self, node: Node, kind: mi.Type, path: str) -> Any:
        """Read a mapping or a list with values of any type."""
        if isinstance(node, MappingNode):
            values: Any = {key: self._leaf(entry.value, kind, join(path, key)) for key, entry in node.entries.items()}
            return BAD if any(value is BAD for value in values.values()) else values
        items = node.items if isinstance(node, Sequence) else (node,)
        values = [self._leaf(item, kind, f"{path}[{index}]") for index, item in enumerate(items)]
        return BAD if any(value is BAD for value in values) else values

    def _form(self, node: Node, form: str, kind: mi.Type, path: str) -> Any:
        if form == "secrets":
            return self._secrets(node, path)
        if isinstance(kind, mi.VarTupleType):
            return self._one_or_more(node, form, kind.item_type, path)
        if form == "ref" and self.read_ref is not None:
            ref = self.read_ref(node, path)
            return BAD if ref is None else ref
        if not isinstance(node, Scalar) or node.null:
            expected = describe_type(mi.Metadata(kind, None, {"form": form}))
            return self.reject(node, path, f"expected {expected}, got {describe_node(node)}")
        text = self.text(node, path)
        if text is None:
            return self._stand_in(node, form)
        try:
            value = self._value(text, node.text, form)
            return check_bounds(value, kind, "") if isinstance(kind, mi.IntType | mi.FloatType) else value
        except ValueError as error:
            shown = "" if form not in FORMATS or FORMATS[form].may_hold_secret else f"; got {shorten(node.text)}"
            self._reject(node, path, error, shown)
            return self._stand_in(node, form)

    def _stand_in(self, node: Scalar, form: str) -> Any:
        """Return a substitute for an absent value, so that the rest of the file can be checked, or BAD."""
        if self.absent is None:
            return BAD
        return {"key_hash": node.text, "store": "redis://absent:6379/0"}.get(form, BAD)

    def _one_or_more(self, node: Node, form: str, kind: mi.Type, path: str) -> Any:
        """Read one value of a format, or a list of them, as a tuple."""
        if not isinstance(node, Sequence):
            value = self._form(node, form, kind, path)
            return BAD if value is BAD else (value,)
        values = [self._form(item, form, kind, f"{path}[{index}]") for index, item in enumerate(node.items)]
        if not values:
            return self.reject(node, path, f"expected {describe_type(mi.Metadata(kind, None, {'form': form}))}, got an empty list")
        return BAD if any(value is BAD for value in values) else tuple(values)

    def _value(self, text: str, written: str, form: str) -> Any:
        if form == "header":
            return Secret(check_header(text))
        if form == "path":
            return self._path(text, written)
        if FORMATS[form].allows_file and written.startswith("file:"):
            secret = self.files.secret(self._folder / Path(text[5:]).expanduser(), written[5:])
            value = FORMATS[form].read(secret.reveal())
            if isinstance(value, Url):
                value.path = secret.path
            return value
        has_password = FORMATS[form].may_hold_secret and "@" in text and ":" in text.partition("@")[0].partition("//")[2]
        if has_password and "${" not in written:
            raise ValueError("do not write the password into this file: use ${NAME}")
        return FORMATS[form].read(text)

    def _path(self, text: str, written: str) -> str:
        """Return the path of a file. Raise ValueError if the file is unreadable."""
        try:
            path = self._folder / Path(text).expanduser()
            self.files.watch(path)
            if self.files.was_present(path):
                return str(path)
            if not path.exists():
                raise AbsentError(f"cannot read {shorten(written)}: no such file (relative to {self._folder})")
            if not path.is_file():
                raise ValueError("not a file")
            path.open("rb").close()
        except AbsentError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"cannot read {shorten(written)}: {reason} (relative to {self._folder})") from None
        return str(path)

    def _secrets(self, node: Node, path: str) -> Any:
        """Read one secret or a list of secrets."""
        if not isinstance(node, Sequence):
            secret = self._secret(node, path)
            return BAD if secret is BAD else (secret,)
        secrets = [self._secret(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
        if not secrets:
            return self.reject(node, path, "expected at least one secret")
        return BAD if any(secret is BAD for secret in secrets) else tuple(secrets)

    def _secret(self, node: Node, path: str) -> Any:
        """Read ${NAME} or file:PATH. Any other text is refused, so that the YAML never contains a secret."""
        if not isinstance(node, Scalar) or node.null:
            return self.reject(node, path, f'expected "${{NAME}}" or file:PATH, got {describe_node(node)}')
        text = self.text(node, path)
        if text is None:
            return BAD if self.absent is None else Secret(node.text)
        try:
            if node.text.startswith("file:"):
                return self.files.secret(self._folder / Path(text[5:]).expanduser(), node.text[5:])
            if "${" not in node.text:
                raise ValueError('do not write a secret into this file: use "${NAME}" or file:PATH')
            check_secret(text, node.text.partition(":-")[0] + ("}" if ":-" in node.text else ""))
            return Secret(text)
        except (ValueError, RuntimeError) as error:  # RuntimeError: a ~user without a home
            found = self._reject(node, path, error)
            return Secret(node.text) if self.absent is not None and isinstance(error, AbsentError) else found


def _build(kind: mi.StructType, values: dict[str, Any], name: str) -> Any:
    if layout_of(kind).has_name:
        values["name"] = name
    return kind.cls(**values)


def _may_be_empty(kind: mi.Type) -> bool:
    """Return whether a key of this type may have no value. For a mapping, that means an empty one."""
    return isinstance(unwrap(kind)[1], mi.DictType | mi.AnyType)
