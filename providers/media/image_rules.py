"""The kinds of rules by which vendors count the tokens of a picture."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Protocol

import msgspec

from providers.media.image_size import Size

MAX_EDGE = 65_535
"""Edges of pictures are at most this long in the formats that vendors accept. Longer edges are counted as this long."""


_ROUNDING = 1e-9


class ImageRule(Protocol):
    """Counts the tokens of a picture. Rules are values, so that counts can be cached."""

    def __hash__(self) -> int: ...

    def tokens(self, size: Size, detail: str | None) -> int:
        """Return the tokens of a picture of this size. `detail` is the value that the caller set."""

    def maximum(self, detail: str | None) -> int:
        """Return the maximum number of tokens of any picture, for pictures whose size is unknown."""


def fitted(size: Size, edge: Fraction | int, *, short: bool = False) -> tuple[Fraction, Fraction]:
    """Scale a size down so that its longer side, or with `short` its shorter side, is at most `edge`."""
    width, height = Fraction(size[0]), Fraction(size[1])
    side = min(width, height) if short else max(width, height)
    scale = min(Fraction(1), Fraction(edge) / side)
    return width * scale, height * scale


def patches(size: tuple[Fraction | int, Fraction | int], side: int) -> int:
    """Return the number of squares of this side that cover a size."""
    return math.ceil(size[0] / side) * math.ceil(size[1] / side)


def covering_patches(size: Size, most: int) -> int:
    """Return the number of patches of 32 pixels of a picture, which is scaled down until `most` patches cover it.

    The sides are then shortened to whole patches (OpenAI, Images and vision).
    """
    count = patches(size, 32)
    if count <= most:
        return count
    scale = math.sqrt(most / (size[0] * size[1]))
    width, height = size[0] * scale, size[1] * scale
    scale = min(math.floor(width + _ROUNDING) / width, math.floor(height + _ROUNDING) / height)
    return max(1, math.ceil(width * scale - _ROUNDING)) * max(1, math.ceil(height * scale - _ROUNDING))


class Fixed(msgspec.Struct, frozen=True):
    """The same number of tokens for every picture."""

    each: int

    def tokens(self, size: Size, detail: str | None) -> int:
        return self.each

    def maximum(self, detail: str | None) -> int:
        return self.each


class DetailTiles(msgspec.Struct, frozen=True):
    """OpenAI's tiles: `base` tokens and, unless the detail is `low`, `each` tokens for every tile of 512 pixels."""

    base: int
    each: int

    def tokens(self, size: Size, detail: str | None) -> int:
        if detail == "low":
            return self.base
        width, height = fitted(size, 2048)
        if min(width, height) > 768:
            scale = 768 / min(width, height)
            width, height = width * scale, height * scale
        return self.base + self.each * patches((width, height), 512)

    def maximum(self, detail: str | None) -> int:
        return self.base if detail == "low" else self.base + 8 * self.each


class DetailPatches(msgspec.Struct, frozen=True):
    """OpenAI's patches of 32 pixels: a factor for each patch of the picture, which is scaled down to a maximum number of patches.

    `detail: low` lowers the resolution for some models only, so it is counted like `high`.
    """

    factor: float
    most: int = 1536
    original: int = 0
    """The maximum with `detail: original`; 0 if the model has no such detail."""
    auto_is_original: bool = False

    def _most(self, detail: str | None) -> int:
        is_original = detail == "original" or (self.auto_is_original and detail in (None, "auto"))
        return self.original if self.original and is_original else self.most

    def tokens(self, size: Size, detail: str | None) -> int:
        return math.ceil(covering_patches(size, self._most(detail)) * self.factor - _ROUNDING)

    def maximum(self, detail: str | None) -> int:
        return math.ceil(self._most(detail) * self.factor - _ROUNDING)


class Area(msgspec.Struct, frozen=True):
    """Anthropic's rule: one token for every 750 pixels, or one for each patch of 28 pixels, after the picture is scaled down.

    Both rules are published. They differ by a few per cent, and the larger number applies.
    """

    edge: int
    most: int

    def tokens(self, size: Size, detail: str | None) -> int:
        width, height = fitted(size, self.edge)
        return min(self.most, max(math.ceil(width * height / 750), patches((width, height), 28)))

    def maximum(self, detail: str | None) -> int:
        return self.most


class CropTiles(msgspec.Struct, frozen=True):
    """Gemini's rule: `each` tokens for every tile, up to `most` tiles. A picture up to `small` pixels is one tile.

    The side of a tile is two thirds of the shorter side of the picture, but at least `least_side` and at most `side` pixels.
    """

    side: int
    least_side: int
    each: int
    most: int
    small: int

    def tokens(self, size: Size, detail: str | None) -> int:
        if max(size) <= self.small:
            return self.each
        side = max(self.least_side, min(self.side, 2 * min(size) // 3))
        return self.each * min(self.most, patches(size, side))

    def maximum(self, detail: str | None) -> int:
        return self.each * self.most


class TwoByTwo(msgspec.Struct, frozen=True):
    """`each` tokens for every tile. There are two tiles along an edge of at least `side` pixels, and one along a shorter edge."""

    side: int
    each: int

    def tokens(self, size: Size, detail: str | None) -> int:
        return self.each * (1 + (size[0] >= self.side)) * (1 + (size[1] >= self.side))

    def maximum(self, detail: str | None) -> int:
        return 4 * self.each


class PatchRows(msgspec.Struct, frozen=True):
    """Mistral's rule: one token for each patch of `side` pixels and one for each row, after the picture is scaled down to `edge`."""

    side: int
    edge: int

    def tokens(self, size: Size, detail: str | None) -> int:
        width, height = fitted(size, self.edge)
        columns, rows = math.ceil(round(width) / self.side) or 1, math.ceil(round(height) / self.side) or 1
        return (columns + 1) * rows

    def maximum(self, detail: str | None) -> int:
        most = math.ceil(self.edge / self.side)
        return (most + 1) * most


class CoveringPatches(msgspec.Struct, frozen=True):
    """One token for each patch of `side` pixels, between a minimum and a maximum, plus the tokens that frame the picture."""

    side: int
    least: int
    most: int
    frame: int = 2

    def tokens(self, size: Size, detail: str | None) -> int:
        return self.frame + min(self.most, max(self.least, patches(size, self.side)))

    def maximum(self, detail: str | None) -> int:
        return self.frame + self.most
