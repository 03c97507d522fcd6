"""Settings of `hooks`: your own hooks, and the masker, the HTTP guard and the deny list that are included."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct

from gateway.config.field_types import Duration, Header
from gateway.config.secret import Secret

MaskKind = Literal["api_key", "card", "email", "iban", "ip", "jwt", "phone"]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)
Side = Literal["input", "output"]
SIDES: tuple[Side, ...] = get_args(Side)


class MaskConfig(Struct, frozen=True):
    """The masker: personal data and secrets of requests are replaced with masks such as `[EMAIL_1]`."""

    kinds: Annotated[
        tuple[MaskKind, ...],
        Meta(
            description="Kinds of values that are masked. `card`: payment card numbers with a valid check digit. `iban`: account numbers "
            "with valid check digits. `phone`: numbers with a country code or in a national form with separators. `api_key`: "
            "credentials of known forms, among them the keys of this gateway. Default: all.",
            examples=[["email", "card", "iban"]],
        ),
    ] = MASK_KINDS
    restore: Annotated[
        bool,
        Meta(description="Whether masks in the answer are replaced with the original values.", examples=[False]),
    ] = True


class GuardConfig(Struct, frozen=True):
    """The HTTP guard: a service that decides whether texts may pass."""

    url: Annotated[
        Annotated[Secret, Meta(extra={"form": "webhook"})],
        Meta(
            description="URL that gets each question in a POST request. It must be an https URL unless it is on loopback or `allow_http` "
            "is true. If it contains a credential, write `${NAME}` or `file:PATH`.",
            examples=["https://guard.example.com/check"],
        ),
    ]
    format: Annotated[
        Literal["webhook", "moderations"],
        Meta(
            description="Format of the questions. `webhook`: the gateway's own, in which the service can also replace texts. "
            "`moderations`: that of OpenAI's moderations API.",
            examples=["moderations"],
        ),
    ] = "webhook"
    model: Annotated[
        str | None,
        Meta(description="The model that a question in the format `moderations` names.", examples=["omni-moderation-latest"]),
    ] = None
    checks: Annotated[
        tuple[Side, ...],
        Meta(description="Texts that are checked. Default: requests and answers.", examples=[["input"]]),
    ] = SIDES
    window: Annotated[
        int,
        Meta(
            ge=16,
            le=4096,
            description="Characters of a stream that are held back and checked together. Each check also gets the same "
            "number of preceding characters.",
            examples=[800],
        ),
    ] = 400
    headers: Annotated[
        dict[str, Header],
        Meta(description="Additional headers of each question.", examples=[{"authorization": "Bearer ${GUARD_TOKEN}"}]),
    ] = {}
    allow_http: Annotated[bool, Meta(description="Whether an http URL that is not on loopback is allowed.", examples=[True])] = False


class DenyConfig(Struct, frozen=True):
    """The deny list: words and patterns that must not occur in requests or answers."""

    words: Annotated[
        tuple[str, ...],
        Meta(
            description="Whole words or phrases, in any combination of upper and lower case, with any white space between words, "
            "and with letters in any width and Unicode composition.",
            examples=[["project nightfall", "acme-internal"]],
        ),
    ] = ()
    patterns: Annotated[
        tuple[str, ...],
        Meta(
            description="Regular expressions in the syntax of RE2. Matching time grows linearly with the text. Requires the extra "
            "`patterns` (docs/installation.md).",
            examples=[["PRJ-[0-9]{6}"]],
        ),
    ] = ()
    action: Annotated[
        Literal["refuse", "replace"],
        Meta(
            description="`refuse`: the call ends with an error. `replace`: `[removed]` takes the place of the match.",
            examples=["replace"],
        ),
    ] = "refuse"
    checks: Annotated[
        tuple[Side, ...],
        Meta(description="Texts that are checked. Default: requests and answers.", examples=[["output"]]),
    ] = SIDES
    window: Annotated[
        int,
        Meta(
            ge=16,
            le=65536,
            description="Characters of a stream that are held back for patterns: a longer match may be missed. Words need no window.",
            examples=[512],
        ),
    ] = 256


class HookConfig(Struct, frozen=True):
    """One hook: `use`, `mask`, `guard` or `deny`, with its deadline and the consequence of a failure."""

    use: Annotated[
        str | None,
        Meta(
            description="`MODULE:OBJECT`, a hook of your own: an object, or a class that is called with `options`. The folder of this file "
            "is searched as well.",
            examples=["team_rules:TopicRule"],
        ),
    ] = None
    options: Annotated[
        dict[str, Any],
        Meta(description="Keyword arguments for the class in `use`.", examples=[{"topics": ["weapons"]}]),
    ] = {}
    mask: Annotated[
        MaskConfig | None,
        Meta(description="Mask personal data and secrets on their way to providers.", examples=[{"kinds": ["email", "card"]}]),
    ] = None
    guard: Annotated[
        GuardConfig | None,
        Meta(
            description="Ask a service about requests and answers.",
            examples=[{"url": "https://guard.example.com/check", "checks": ["input"]}],
        ),
    ] = None
    deny: Annotated[
        DenyConfig | None,
        Meta(
            description="Refuse calls with these words and patterns, or replace the matches.",
            examples=[{"words": ["project nightfall"]}],
        ),
    ] = None
    deadline: Annotated[
        Duration | None,
        Meta(
            description="Maximum time of one call of the hook at one point, at most 60s. Default: 1s; `guard`: 5s; `mask` and `deny`: 30s.",
            examples=["200ms"],
        ),
    ] = None
    failure: Annotated[
        Literal["open", "closed"] | None,
        Meta(
            description="Consequence if the hook fails or misses its deadline. `closed`: the call ends with an error. `open`: the "
            "call continues without the hook. Default: as the hook declares; the included hooks are closed.",
            examples=["open"],
        ),
    ] = None

    @property
    def included(self) -> MaskConfig | GuardConfig | DenyConfig | None:
        """The settings of an included hook, or None."""
        return self.mask or self.guard or self.deny

    @property
    def name(self) -> str:
        """The name of the hook in errors, metrics and receipts."""
        if self.use is not None:
            return self.use
        return "mask" if self.mask is not None else "guard" if self.guard is not None else "deny"
