"""Recognizes personal data and secrets in a text, by their form and, where there are any, by their check digits.

The patterns have no nested repetition, so their time grows linearly with the text. An international account number has the
length of its country (ISO 13616); a card number has a known first digit, 13 to 19 digits and a check digit (ISO/IEC 7812).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from gateway.config.hook import MaskKind

_IBAN_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22 "
    "GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 "
    "MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 "
    "VG24 XK20"
)
_IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBAN_COUNTRIES.split()}
_API_KEYS = (
    r"sk-[A-Za-z0-9_-]{20,200}", r"(?:AKIA|ASIA)[0-9A-Z]{16}", r"gh[pousr]_[A-Za-z0-9]{36,255}", r"github_pat_[A-Za-z0-9_]{50,255}",
    r"glpat-[A-Za-z0-9_-]{20,64}", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}", r"AIza[0-9A-Za-z_-]{35}", r"hf_[A-Za-z0-9]{30,64}",
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,200}", r"whsec_[A-Za-z0-9+/=]{24,128}", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}",
    r"npm_[A-Za-z0-9]{36}", r"pypi-[A-Za-z0-9_-]{50,250}", r"gsk_[A-Za-z0-9]{40,64}", r"xai-[A-Za-z0-9]{40,128}", r"csk-[a-z0-9]{40,64}",
    r"fw_[A-Za-z0-9]{22,64}", r"dop_v1_[0-9a-f]{64}", r"sq0[a-z]{3}-[A-Za-z0-9_-]{22,64}", r"key-[0-9a-f]{32}",
)  # fmt: skip
MIN_CARD_DIGITS = 13
_DIGITS = re.compile(r"[0-9]+")
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""The digit sum of twice each digit."""
_LETTERS = {chr(ord("A") + at): str(at + 10) for at in range(26)}
_MARKS: dict[MaskKind, str] = {"email": "@", "jwt": "eyJ"}
"""Texts that every value of a kind contains: a text without them need not be searched."""
_WITH_DIGITS = frozenset({"card", "iban", "phone"})
_NOT_IN_WORD = r"(?<![A-Za-z0-9_])"

PATTERNS: dict[MaskKind, str] = {
    "jwt": _NOT_IN_WORD + r"eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{4,8192}\.[A-Za-z0-9_-]{0,2048}",
    "api_key": _NOT_IN_WORD + "(?:" + "|".join(_API_KEYS) + ")",
    "email": r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,63}(?![\w-])",
    "iban": r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}",
    "card": (
        r"(?<![\w.+-])(?:[2-6][0-9]{12,18}|[2-6][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
        r"|3[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})(?![\w-]|\.[0-9])"
    ),
    "ip": r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w:]|\.[0-9])|(?=[0-9A-Fa-f:]{0,39}:)[0-9A-Fa-f:]{2,39}(?![\w:]))",
    "phone": (
        r"(?<![\w.+-])(?:\+[1-9](?:[ ().-]{0,2}[0-9]){6,14}|00[1-9](?:[ ().-]{0,2}[0-9]){7,14}"
        r"|\(?[2-9][0-9]{2}\)?[ .-][0-9]{3}[ .-][0-9]{4}|0[1-9][0-9]{1,4}(?: ?/ ?|[ -])[0-9]{2,4}(?:-?[0-9]{2,4}| [1-9][0-9]{1,3}){1,3}"
        r"|0[1-9](?:[ .-][0-9]{2}){4})(?![\w-]|\.[0-9])"
    ),
}
"""The pattern of each kind. Where matches of two kinds overlap, the first kind in this order applies."""


class Found(NamedTuple):
    """A value that was recognized, and its place in the text."""

    start: int
    end: int
    kind: MaskKind


class Recognizer:
    """Finds values of some kinds."""

    def __init__(self, kinds: Iterable[MaskKind]) -> None:
        self._patterns = [(kind, re.compile(PATTERNS[kind]), _CHECKS.get(kind)) for kind in PATTERNS if kind in frozenset(kinds)]

    def find(self, text: str) -> list[Found]:
        """Return the values in a text, in order and without overlaps."""
        found: list[Found] = []
        taken = bytearray(len(text))
        has_digits = _DIGITS.search(text) is not None
        for kind, pattern, check in self._patterns:
            if _MARKS.get(kind, "") not in text or (not has_digits and kind in _WITH_DIGITS):
                continue
            for start, end in _matches(text, pattern, check):
                if not any(taken[start:end]):
                    taken[start:end] = b"\x01" * (end - start)
                    found.append(Found(start, end, kind))
        return sorted(found)


Check = Callable[[str], int]


def _matches(text: str, pattern: re.Pattern[str], check: Check | None) -> Iterator[tuple[int, int]]:
    at = 0
    while (match := pattern.search(text, at)) is not None:
        start = match.start()
        length = len(match[0]) if check is None else check(match[0])
        if length:
            yield start, start + length
        at = start + (length or 1)  # a match that is too long may cover the beginning of the next value


def _card(text: str) -> int:
    """Return the length of the longest card number with which the text begins, or 0."""
    ends = [match.end() for match in _DIGITS.finditer(text)]
    for end in reversed(ends):
        digits = _bare(text[:end])
        if len(digits) >= MIN_CARD_DIGITS and _has_check_digit(digits) and len(set(digits)) > 1:
            return end
    return 0


def _has_check_digit(digits: str) -> bool:
    total = sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))
    return total % 10 == 0


def _bare(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _iban(text: str) -> int:
    """Return the length of the account number with which the text begins, or 0."""
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    chars = _bare(text)[:length].upper()
    if not length or len(chars) < length:
        return 0
    if int("".join([_LETTERS.get(char, char) for char in chars[4:] + chars[:4]])) % 97 != 1:
        return 0
    end = length
    while len(_bare(text[:end])) < length:
        end += 1
    return end


def _ip(text: str) -> int:
    """Return the length of the text without colons at its end if it is an IP address, else 0.

    Also return 0 for a loopback or unspecified address.
    """
    bare = text.rstrip(":") if not text.endswith("::") else text
    try:
        address = ip_address(bare)
    except ValueError:
        return 0
    return 0 if address.is_loopback or address.is_unspecified else len(bare)


_CHECKS: dict[MaskKind, Check] = {"card": _card, "iban": _iban, "ip": _ip}
