"""Describes in words, for docs/providers.md, how a dialect of JSON Schema changes a request."""

from __future__ import annotations

from providers.rules.schema_dialect import Dialect


def dialect_notes(dialect: Dialect) -> list[str]:
    """Return notes on the treatment of the schemas that a vendor enforces."""
    removed = ", ".join(f"`{name}`" for name in sorted(dialect.removes))
    kept = ", ".join(f"`{name}`" for name in sorted(dialect.keeps or ()))
    notes = {
        "applies to all schemas": dialect.always,
        "applies to schemas with `strict: true`": not dialect.always,
        "every object gets `additionalProperties: false`": dialect.closes,
        "every property must be required": dialect.all_required,
        "every object must require a property": dialect.one_required,
        "the root must be an object": dialect.root_object,
        "every schema must have a type": dialect.needs_type,
        "lists of types are sent as `anyOf`": not dialect.type_lists,
        "`items` with a list is sent as `prefixItems`": not dialect.tuples,
        "`oneOf` is sent as `anyOf`": dialect.rewrites_one_of,
        "`definitions` are sent as `$defs`": dialect.moves_definitions,
        "no recursion": not dialect.recursive,
        f"at most {dialect.max_chars} characters": dialect.max_chars is not None,
        f"supported keywords: {kept}": bool(kept),
        f"unsupported keywords: {removed}": bool(removed),
        "keywords that are not guaranteed are sent, and checked by the gateway": not dialect.guarantees_all,
        "schemas that cannot be rewritten are sent with `strict: false`": dialect.falls_back,
        "if a schema cannot be rewritten, an instruction requests the JSON": not dialect.falls_back,
    }
    return [note for note, applies in notes.items() if applies]
