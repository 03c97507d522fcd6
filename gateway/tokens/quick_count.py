"""Counts the tokens of short texts with little memory: known words are looked up, and the pieces of new ones are merged here.

A count has a maximum number of steps, because it runs on the event loop. Most texts need few: their pieces are known, or are
single tokens. Texts that need more, such as random letters or long words of a language without spaces, are left to the
tokenizer process, whose library is faster but needs 64 MB and half a second to load.
"""

from __future__ import annotations

from itertools import pairwise

from gateway.tokens.pieces import Classes, SlowTextError, splitter
from gateway.tokens.vocabulary import NO_RANK, Vocabulary
from gateway.tokens.words import ends_separately, is_separate, words_of

MAX_STEPS = 1_500
"""Maximum number of steps of one count: one for each new piece and each new character, two for each byte of the pieces that are
merged, and a few for each text. Measured time: 2 ms."""
STEPS_PER_MERGED_BYTE = 2
STEPS_PER_SPLIT = 3
"""Steps for each text that is split into pieces, in addition to those for its pieces."""
MAX_MERGED_BYTES = 128
"""Maximum length of a piece that is merged here. The time of a merge grows with the square of the length."""
MAX_KNOWN_PIECES = 20_000
MAX_KNOWN_WORDS = 20_000
MAX_KNOWN_CHARS = 64
"""Maximum length of a piece or word whose count is kept. 20,000 counts of usual words take 2 MB."""
MAX_NEW_WORDS = 1_000
"""Maximum number of new words in a text that is counted by its words. Other texts are counted by their pieces."""


class QuickCount:
    """Counts texts with one encoding, exactly. Only one thread may use an object of this class."""

    def __init__(self, name: str) -> None:
        """Open the encoding. Raise OSError if it has no vocabulary."""
        self._vocabulary = Vocabulary(name)
        self._classes = Classes()
        self._split = splitter(name, self._classes)
        self._known: dict[str, int] = {}
        """The number of tokens of pieces that have been counted."""
        self._first: dict[str, int] = {}
        """The number of tokens of words at the beginning of a text."""
        self._words: dict[str, int] = {"": 1}
        """The number of tokens of other words, with the space before them. An empty word stands for a run of spaces."""

    def __call__(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each text. Raise SlowTextError if they need too many steps."""
        counts, steps = [], MAX_STEPS
        for text in texts:
            count, steps = self._count(text, steps)
            counts.append(count)
        return counts

    def _count(self, text: str, steps: int) -> tuple[int, int]:
        """Return the number of tokens of a text, and the remaining steps."""
        words = words_of(text)
        if words is None:
            return self._by_pieces(text, steps)
        first = words.pop(0)
        before = self._first.get(first)
        new: set[str] = set()
        try:
            following = sum(map(self._words.__getitem__, words))
        except KeyError:
            following, new = 0, {word for word in words if word not in self._words}
        if not new and before is None and ends_separately(first):
            before, steps = self._by_pieces(first, steps)
            self._keep(first, before, {})
        if before is not None and not new:
            return before + following, steps
        if len(new) > MAX_NEW_WORDS or not (ends_separately(first) and all(map(is_separate, new))):
            return self._by_pieces(text, steps)
        (before, *counts), steps = self._by_word([first, *new], steps)
        found = dict(zip(new, counts, strict=True))
        if new:
            following = sum(found[word] if word in found else self._words[word] for word in words)
        self._keep(first, before, found)
        return before + following, steps

    def _by_word(self, words: list[str], steps: int) -> tuple[list[int], int]:
        """Return the number of tokens of each word, where all but the first follow a space, and the remaining steps."""
        pieces, steps = self._split(" ".join(words), steps - STEPS_PER_SPLIT)
        counted, steps = self._counts_of(pieces, steps)
        counts = [0]
        for piece, count in zip(pieces, counted, strict=True):
            if piece[0] == " ":
                counts.append(count)
            else:
                counts[-1] += count
        return counts, steps

    def _keep(self, first: str, count: int, found: dict[str, int]) -> None:
        """Keep the count of a word at the beginning of a text, and those of other words, unless the words are long."""
        if len(self._first) >= MAX_KNOWN_WORDS:
            self._first.clear()
        if len(first) <= MAX_KNOWN_CHARS:
            self._first[first] = count
        if len(self._words) + len(found) > MAX_KNOWN_WORDS:
            self._words = {"": 1}
        self._words.update((word, tokens) for word, tokens in found.items() if len(word) <= MAX_KNOWN_CHARS)

    def _by_pieces(self, text: str, steps: int) -> tuple[int, int]:
        """Return the number of tokens of a text, and the remaining steps."""
        counts, steps = self._counts_of(*self._split(text, steps - STEPS_PER_SPLIT))
        return sum(counts), steps

    def _counts_of(self, pieces: list[str], steps: int) -> tuple[list[int], int]:
        """Return the number of tokens of each piece, and the remaining steps."""
        try:
            return list(map(self._known.__getitem__, pieces)), steps
        except KeyError:
            long, steps = self._learn(set(pieces), steps)
        counts = list(map(self._known.__getitem__, pieces))
        for piece in long:
            del self._known[piece]
        return counts, steps

    def _learn(self, pieces: set[str], steps: int) -> tuple[list[str], int]:
        """Count new pieces. Return those that are too long to be kept, and the remaining steps."""
        known = self._known
        unknown = pieces.difference(known)
        if len(unknown) > steps:
            raise SlowTextError
        if len(known) + len(unknown) > MAX_KNOWN_PIECES:
            known.clear()
            unknown = pieces
        new = {piece: piece.encode(errors="replace") for piece in unknown}
        merged = [piece for piece, source in new.items() if self._vocabulary.rank_of(source) == NO_RANK]
        steps -= len(new) + STEPS_PER_MERGED_BYTE * sum(len(new[piece]) for piece in merged)
        if steps < 0 or any(len(new[piece]) > MAX_MERGED_BYTES for piece in merged):
            raise SlowTextError  # before any of the steps of the merges
        known.update(dict.fromkeys(new, 1))
        known.update((piece, self._merged(new[piece])) for piece in merged)
        return [piece for piece in new if len(piece) > MAX_KNOWN_CHARS], steps

    def _merged(self, piece: bytes) -> int:
        """Return the number of tokens in a piece that is not itself a token.

        The two neighbours that form the token of the lowest rank are merged first.
        """
        rank_of, pairs = self._vocabulary.rank_of, self._vocabulary.pairs
        starts = list(range(len(piece) + 1))
        ranks = [pairs[first << 8 | second] for first, second in pairwise(piece)]
        """The rank of each part of the piece together with the next part."""
        while ranks and (lowest := min(ranks)) != NO_RANK:
            at = ranks.index(lowest)
            del starts[at + 1], ranks[at]
            if at < len(ranks):
                ranks[at] = rank_of(piece[starts[at] : starts[at + 2]])
            if at:
                ranks[at - 1] = rank_of(piece[starts[at - 1] : starts[at + 1]])
        return len(starts) - 1
