"""Types of configuration fields whose values have their own text format, which `form` names (see types.py)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.config.formats import Address
from gateway.config.secret import Secret

Duration = Annotated[float, Meta(extra={"form": "duration"})]
Pause = Annotated[float, Meta(extra={"form": "pause"})]
Lifetime = Annotated[float, Meta(extra={"form": "lifetime"})]
Size = Annotated[int, Meta(extra={"form": "size"})]
Listen = Annotated[Address, Meta(extra={"form": "address"})]
File = Annotated[str, Meta(extra={"form": "path"})]
Name = Annotated[str, Meta(extra={"form": "outside"})]  # the name of the entry, not a key of the YAML
Secrets = Annotated[tuple[Secret, ...], Meta(extra={"form": "secrets"})]
Header = Annotated[Secret, Meta(extra={"form": "header"})]
KeyHash = Annotated[str, Meta(extra={"form": "key_hash"})]
Dollars = Annotated[float, Meta(ge=0, le=100_000)]

# Texts that several structs share.
KEY_HASH_EXAMPLE = "sha256:447b9e85ddf3f879fbafe09c54faded276f03073c96626cf2aee056126327dda"
STRICT_DESCRIPTION = (
    "Reject a call (400) if its target cannot honour a parameter, instead of adjusting the request and reporting the "
    "adjustment."
)
