"""Checks of the tags that a configuration declares."""

from __future__ import annotations

from gateway.config.problem import Problems
from gateway.config.types import Config

MAX_TAGS = 200


def check_tags(config: Config, problems: Problems) -> None:
    """Refuse repeated tags, and more than MAX_TAGS."""
    if len(config.tags) > MAX_TAGS:
        problems.add_at_path("tags", f"{len(config.tags)} tags; at most {MAX_TAGS} are allowed")
    seen: set[str] = set()
    for index, tag in enumerate(config.tags):
        if tag in seen:
            problems.add_at_path(f"tags[{index}]", f"'{tag}' is repeated: remove one of them")
        seen.add(tag)
