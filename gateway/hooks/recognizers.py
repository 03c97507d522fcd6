"""Recognizes personal data and secrets in a text, by their form and, where there are any, by their check digits.

The time grows linearly with the text: every repetition in FORMS is bounded, and no part of a text is read again from each of many
beginnings. An international account number has the length of its country (ISO 13616); a card number has a known first digit, 13 to
19 digits and a check digit (ISO/IEC 7812).

A value may touch other characters if its form is unusual enough. Otherwise, letters and digits of ASCII must not touch it: an
identifier may contain a number with a valid check digit, and a slug may contain the beginning of a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from gateway.config.hook import MaskKind
from gateway.hooks.views import UNSPACED, readings, shown, shown_end, windows

_IBAN_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22 "
    "GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 "
    "MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 "
    "VG24 XK20"
)
_IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBAN_COUNTRIES.split()}
_DISTINCT_KEYS = (
    ("lg-", r"(?<!-lg-)(?=[A-Za-z0-9_-]{43})(?=[A-Za-z_-]{0,42}[0-9])(?=[a-z0-9_-]{0,42}[A-Z])(?=[A-Z0-9_-]{0,42}[a-z])"
     r"[A-Za-z0-9_-]{43}"),
    ("AKIA", r"(?=[A-Z]{0,15}[0-9])[0-9A-Z]{16}"), ("ASIA", r"(?=[A-Z]{0,15}[0-9])[0-9A-Z]{16}"),
    *((f"gh{letter}_", r"[A-Za-z0-9]{36,255}") for letter in "pousr"), ("github_pat_", r"[A-Za-z0-9_]{50,255}"),
    ("glpat-", r"[A-Za-z0-9_-]{20,64}"), ("AIza", r"[0-9A-Za-z_-]{35}"), ("hf_", r"[A-Za-z0-9]{30,64}"),
    *((f"xox{letter}-", r"(?=[A-Za-z-]{0,20}[0-9])[A-Za-z0-9-]{10,250}") for letter in "abeoprs"),
    *((f"{kind}k_{mode}_", r"(?=[A-Za-z]{0,15}[0-9])[A-Za-z0-9]{16,200}") for kind in "srp" for mode in ("live", "test")),
    ("whsec_", r"[A-Za-z0-9+/=]{24,128}"), ("SG.", r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"), ("npm_", r"[A-Za-z0-9]{36}"),
    ("pypi-AgE", r"[A-Za-z0-9_-]{47,250}"), ("gsk_", r"[A-Za-z0-9]{40,64}"), ("xai-", r"[A-Za-z0-9]{40,128}"),
    ("csk-", r"[a-z0-9]{40,64}"), ("fw_", r"(?=[A-Za-z]{0,21}[0-9])[A-Za-z0-9]{22,64}"), ("dop_v1_", r"[0-9a-f]{64}"),
    ("sk-", r"(?=[A-Za-z]{0,19}[0-9])[A-Za-z0-9]{20}[A-Za-z0-9_-]{0,180}"),
    ("sk-", r"(?:proj|svcacct|admin|ant-[a-z0-9]{1,10}|or-v[0-9])-(?:[A-Za-z0-9]{20}[A-Za-z0-9_-]{0,180}"
     r"|(?=[A-Za-z_-]{0,23}[0-9])(?=[a-z0-9_-]{0,23}[A-Z])[A-Za-z0-9_-]{40,200})"),
)  # fmt: skip
"""Credentials, by their beginning, that differ from every word, so that they may touch letters.

The gateway's own keys, which begin with `lg-`, come first: a random key may contain another form, such as `fw_`.
"""
_KEYS = (
    ("lg-", r"(?<!-lg-)(?=[A-Za-z0-9_-]{43})(?=[a-z0-9_-]{0,42}[A-Z])(?=[A-Z0-9_-]{0,42}[a-z])[A-Za-z0-9_-]{43}"),
    ("sk-", r"[A-Za-z0-9_-]{20,200}"), ("AKIA", r"[0-9A-Z]{16}"), ("ASIA", r"[0-9A-Z]{16}"),
    *((f"{kind}k_{mode}_", r"[A-Za-z0-9]{16,200}") for kind in "srp" for mode in ("live", "test")),
    ("SG.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"), ("pypi-", r"[A-Za-z0-9_-]{50,250}"), ("fw_", r"[A-Za-z0-9]{22,64}"),
    ("sq0", r"[a-z]{3}-[A-Za-z0-9_-]{22,64}"), ("key-", r"[0-9a-f]{32}"),
)  # fmt: skip
"""Credentials that a part of a word or of a slug may resemble, so that no letter of ASCII may precede them."""
_EMAIL_LABEL = (
    rf"(?:[^\W_{UNSPACED}](?:(?:[^\W{UNSPACED}]|[\u0300-\u036f-]){{0,61}}[^\W_{UNSPACED}])?"
    rf"|[{UNSPACED}](?:[\w-]{{0,61}}[^\W_])?)"
)
_EMAIL_END = rf"[^\W\d_{UNSPACED}]{{2,63}}"
_WIDE_ENDS = "中国|中國|公司|集团|香港|台湾|台灣|新加坡|网络|网址|在线|中文网|商城|政务|公益|商标|手机|世界|みんな|コム"
"""The top-level domains that may follow an ideographic full stop. It separates labels (UTS 46) and ends a sentence, so that any other word
in a script without spaces is the next sentence."""
_LOCAL_CHARS = 64
_LOCAL = re.compile(rf"(?:[^\W{UNSPACED}]|[\u0300-\u036f.+%-]|(?<=[^\W_])'(?=[^\W_])){{1,{_LOCAL_CHARS}}}")
_UNSPACED_LOCAL = re.compile(rf"(?=[{UNSPACED}])[\w.+%-]{{1,{_LOCAL_CHARS}}}")
_VERSION = re.compile(r"(?:[0-9]+\.){2,}[^\W\d_]+\Z")
_TOKEN_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_MAX_HEADER_CHARS, _MIN_HEADER_CHARS = 4096, 11
MIN_CARD_DIGITS = 13
_DIGITS = re.compile(r"[0-9]+")
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""The digit sum of twice each digit."""
_LETTERS = {chr(ord("A") + at): str(at + 10) for at in range(26)}
_ZEROS = (
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x17E0, 0x1810,
    0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6,
)  # fmt: skip
"""The zeros of other scripts, such as Arabic, Devanagari and Thai, and of mathematical notation. Nine more digits follow each."""
_PLAIN: dict[int, int | str] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if code != 0xFF1A},
    **dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "),
    0x2010: "-", 0x2011: "-", 0x2019: "'",
    **{zero + digit: str(digit) for zero in _ZEROS for digit in range(10)},
}  # fmt: skip
"""Full-width characters, digits, spaces, hyphens and apostrophes as those of ASCII. A full-width colon stays: an IP address may have it."""
_DASH = re.compile(r"(?<=[0-9)])[\u2012\u2013\u2212](?=[0-9(])")
"""A dash that stands for a hyphen: one between digits. Before a number, it is a dash or a minus."""

def _not_after(chars: str) -> str:
    """Return the condition that none of these characters precedes the first character of a match, which has been read.

    A pattern that begins with a literal or a class is searched faster than one that begins with a condition.
    """
    return rf"(?<![{chars}][\s\S])"


_NOT_DECIMAL = r"(?<![0-9]\.[\s\S])"
"""The condition that the first character of a match does not begin the fraction of a number."""
_NATIONAL_END = r"(?![A-Za-z0-9]|-[A-Za-z0-9]|\.[0-9])"
FORMS: tuple[tuple[MaskKind, str, str], ...] = (
    ("jwt", ".eyJ", r"\.eyJ[A-Za-z0-9_-]{4,8192}+\.[A-Za-z0-9_-]{0,2048}+"),
    *(("api_key", start, re.escape(start) + rest) for start, rest in _DISTINCT_KEYS),
    *(("api_key", start, rf"{re.escape(start)}(?<![A-Za-z]{re.escape(start)}){rest}") for start, rest in _KEYS),
    ("email", "@", rf"@(?:(?:{_EMAIL_LABEL}\.){{1,8}}(?:{_EMAIL_END}|[{UNSPACED}]{{2,63}})"
     rf"|(?:{_EMAIL_LABEL}[\u3002\uff61]){{1,8}}(?:{_EMAIL_END}|{_WIDE_ENDS}))"),
    ("iban", "", r"[A-Za-z]{2}[0-9]{2}(?:(?<![A-Za-z0-9][\s\S]{4})(?:[ -]?[A-Za-z0-9]){11,30}"
     r"|(?:[ -]?[A-Za-z]){0,4}(?:[ -]?[0-9]){7,28})"),
    ("card", "", r"[2-6]" + _not_after("0-9+-") + _NOT_DECIMAL + r"(?:(?<!_[\s\S])[0-9]{12,18}(?![A-Za-z])"
     r"|[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
     r"|(?<=3)[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})(?![0-9]|-[A-Za-z0-9]|\.[0-9])"),
    ("ip", ":", r"[0-9A-Fa-f:]" + _not_after("A-Za-z0-9") + _NOT_DECIMAL + r"(?<![0-9A-Fa-f:]:[\s\S])"
     r"(?:(?<=:)|(?=[0-9A-Fa-f]{0,3}:))[0-9A-Fa-f:]{1,38}(?:(?:\.[0-9]{1,3}){3})?"
     r"(?![A-Za-z0-9:]|\.[0-9])"),
    ("ip", ".", r"[0-9]" + _not_after("A-Za-z0-9") + _NOT_DECIMAL + r"[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9]|\.[0-9])"),
    ("phone", "+", r"\+(?:" + _not_after("A-Za-z0-9_+-") + r"[1-9](?:[ ().-]{0,2}[0-9]){6,14}"
     r"|(?<=[A-Za-z_][\s\S])[1-9](?:[ ().-]{0,2}[0-9]){9,14})(?![0-9]|\.[0-9])"),
    ("phone", "", r"[(2-9]" + _not_after("0-9+-") + _NOT_DECIMAL +
     r"(?:(?<=\()[2-9]|(?<!\())[0-9]{2}\)?[ .-][0-9]{3}[ .-][0-9]{4}" + _NATIONAL_END),
    ("phone", "0", "0" + _not_after("A-Za-z0-9+-") + _NOT_DECIMAL + r"(?:0[1-9](?:[ ().-]{0,2}[0-9]){7,14}"
     r"|[1-9][0-9]{1,4}(?: ?/ ?|[ -])[0-9]{2,4}(?:-?[0-9]{2,4}| [1-9][0-9]{1,3}){1,3}|[1-9](?:[ .-][0-9]{2}){4})" + _NATIONAL_END),
)  # fmt: skip
"""The forms of values: a kind, a text that every value of the form contains, and a pattern. The first form that matches a place applies."""


class Found(NamedTuple):
    """A value that was recognized, and its place in the text. Escapes of JSON in the text are resolved in the `value`."""

    start: int
    end: int
    kind: MaskKind
    value: str


class Recognizer:
    """Finds values of some kinds."""

    def __init__(self, kinds: Iterable[MaskKind]) -> None:
        wanted = frozenset(kinds)
        self._forms = [(kind, mark, re.compile(pattern), _LOCATE[kind]) for kind, mark, pattern in FORMS if kind in wanted]

    def find(self, text: str) -> list[Found]:
        """Return the values in a text, in order and without overlaps."""
        found: list[Found] = []
        taken = bytearray(len(text))
        for window in windows(text):
            for each in self._in_window(window.text):
                start, end = each.start + window.base, shown_end(text, each.start + window.base, each.end + window.base)
                if window.first <= each.start < window.last and not any(taken[start:end]):
                    taken[start:end] = b"\x01" * (end - start)
                    found.append(each._replace(start=start, end=end))
        return sorted(found)

    def _in_window(self, source: str) -> Iterator[Found]:
        """Return the values in a text in the order of the forms, and for each form first those in the text without its escapes.

        In a text such as `\\nada@example.org`, the letter of the escape is not a part of the value.
        """
        views = [(view, _plain(view.text)) for view in map(shown, reversed(readings(source)[0]))]
        for kind, mark, pattern, locate in self._forms:
            for view, text in views:
                if mark in text:
                    for start, end in _matches(text, pattern, locate):
                        yield Found(*view.span(start, end), kind, view.text[start:end])


Span = tuple[int, int]
Locate = Callable[[str, int, int], Span | None]
"""Returns the place of the value for the place of a match, or None if there is no value."""


def _matches(text: str, pattern: re.Pattern[str], locate: Locate) -> Iterator[Span]:
    at = 0
    while (match := pattern.search(text, at)) is not None:
        place = locate(text, *match.span())
        if place is not None:
            yield place
        at = max(match.start() + 1, place[1] if place is not None else 0)  # a match may cover the beginning of the next value


def _plain(text: str) -> str:
    """Return a text of the same length with plain characters."""
    return text if text.isascii() else _DASH.sub("-", text.translate(_PLAIN))


def _whole(text: str, start: int, end: int) -> Span:
    """Return the place of the match."""
    return start, end


def _jwt(text: str, start: int, end: int) -> Span | None:
    """Return the place of a token whose second part was found, if its first part precedes it."""
    before = text[max(0, start - _MAX_HEADER_CHARS) : start]
    header = before[len(before.rstrip(_TOKEN_CHARS)) :]
    at = header.find("eyJ")
    return (start - len(header) + at, end) if at >= 0 and len(header) - at >= _MIN_HEADER_CHARS else None


def _email(text: str, start: int, end: int) -> Span | None:
    """Return the place of an address whose `@` and domain were found.

    An apostrophe belongs to the name (`o'brien`), unless it opens a quotation that ends after the address (`f'ada@example.org'`).
    """
    before = text[max(0, start - _LOCAL_CHARS) : start][::-1]
    local = _LOCAL.match(before) or _UNSPACED_LOCAL.match(before)
    if local is None or (text[end : end + 1].isdigit() and _VERSION.match(text, start + 1, end)):
        return None
    size, quote = local.end(), local.group().find("'")
    if quote >= 0 and text[end : end + 1] == "'" and before[size : size + 1] != "'":
        size = quote
    return start - size, end


def _card(text: str, start: int, end: int) -> Span | None:
    """Return the place of the longest card number with which the match begins."""
    for last in reversed([match.end() for match in _DIGITS.finditer(text, start, end)]):
        digits = _bare(text[start:last])
        if len(digits) >= MIN_CARD_DIGITS and _has_check_digit(digits) and len(set(digits)) > 1:
            return start, last
    return None


def _has_check_digit(digits: str) -> bool:
    total = sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))
    return total % 10 == 0


def _bare(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _iban(text: str, start: int, end: int) -> Span | None:
    """Return the place of the account number with which the match begins."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    chars = _bare(text[start:end])[:length].upper()
    if not length or len(chars) < length:
        return None
    if int("".join([_LETTERS.get(char, char) for char in chars[4:] + chars[:4]])) % 97 != 1:
        return None
    last = start + length
    while len(_bare(text[start:last])) < length:
        last += 1
    return start, last


def _ip(text: str, start: int, end: int) -> Span | None:
    """Return the place of an address that is neither a loopback nor an unspecified address."""
    bare = text[start:end]
    bare = bare.rstrip(":") if not bare.endswith("::") else bare
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified else (start, start + len(bare))


_LOCATE: dict[MaskKind, Locate] = {
    "api_key": _whole, "card": _card, "email": _email, "iban": _iban, "ip": _ip, "jwt": _jwt, "phone": _whole,
}  # fmt: skip
