"""Tokens of a conversation, counted offline: exactly where the tokenizer is known, else by o200k times a stated factor.

Encodings are large (64 MB, half a second to load), so only what a configuration needs is loaded, before the first caller is let in:
loading holds the GIL, counting releases it, so that what may take longer than 5 ms is done in a thread. Callers send the whole history
with every turn: what a message counts is remembered by its bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import math
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from providers.base import Body

FALLBACK_FACTOR = 1.2
"""o200k for another model's tokenizer. Measured ratios: English and code 0.99 to 1.08, other languages 0.9 to 1.36."""
MAX_INLINE_BYTES = 16 << 10
"""Bytes of messages that are counted on the event loop: under 1 ms of text, under 5 ms of random letters (measured)."""
MAX_CACHED_COUNTS = 20_000
"""Messages whose count is kept."""
TOKENS_PER_MESSAGE, TOKENS_PER_NAME, REPLY_TOKENS = 3, 1, 3
"""OpenAI's chat format: tokens around each message, before a name, and before the answer (its cookbook on counting)."""
TOKENS_PER_IMAGE, TOKENS_PER_SMALL_IMAGE = 1445, 85
"""The most that GPT-4o charges for an image (eight tiles), and what it charges for `detail: low` (OpenAI's vision guide)."""
MIN_BYTES_PER_TOKEN = 2
"""Without any tokenizer: never too few for text, JSON and numbers; base64 comes close (measured)."""

_PREFIXES: tuple[tuple[str, str], ...] = (
    ("gpt-4o", "o200k_base"),
    ("gpt-4.", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
)
"""OpenAI's models, the first prefix that fits."""
_COUNTED_FIELDS = ("tools", "functions", "response_format")
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode

T = TypeVar("T")
CountTexts = Callable[[list[str]], list[int]]
"""Counts each of several texts."""


class Tokenizer(msgspec.Struct, frozen=True):
    """How a model's tokens are counted: an encoding of toktok-rs, or the path of a tokenizer.json; times `factor`."""

    name: str
    factor: float = 1.0
    exact: bool = False
    """Plain text counts as the provider will count it."""
    file: bool = False

    def label(self) -> str:
        """What the receipt says."""
        if self.file:
            return "tokenizer.json"
        return self.name if self.factor == 1 else f"{self.name} x {self.factor:g}"


FALLBACK = Tokenizer("o200k_base", FALLBACK_FACTOR)
BY_BYTES = Tokenizer("bytes / 2")


def tokenizer_for(kind: str, model: str, file: str | None = None) -> Tokenizer:
    """The tokenizer of a model at a provider of type `kind`; `file` is the operator's tokenizer.json."""
    if file is not None:
        return Tokenizer(file, file=True)
    if kind in ("openai", "azure"):
        for prefix, encoding in _PREFIXES:
            if model.startswith(prefix):
                return Tokenizer(encoding, exact=True)
    return FALLBACK


class TokenCount(msgspec.Struct, frozen=True):
    """The tokens of each message of a conversation, and of what goes with it."""

    messages: tuple[int, ...]
    overhead: int
    """System prompt, tools, the answer's start."""
    factor: float
    exact: bool
    tokenizer: str

    def total(self, evicted: Collection[int] = ()) -> int:
        """Tokens of the prompt once the messages at these places are gone."""
        gone = sum(self.messages[at] for at in evicted)
        return math.ceil((sum(self.messages) - gone + self.overhead) * self.factor)

    def totals(self, leaving: Sequence[Sequence[int]]) -> list[int]:
        """The same after each step of a conversation that groups of places leave one by one; first as it is."""
        left = sum(self.messages) + self.overhead
        found = [math.ceil(left * self.factor)]
        for group in leaving:
            left -= sum(self.messages[at] for at in group)
            found.append(math.ceil(left * self.factor))
        return found


class TokenCounter:
    """Counts, remembers, and loads encodings when they are first needed."""

    def __init__(self, load: Callable[[Tokenizer], CountTexts] | None = None) -> None:
        """`load` makes the function that counts by a tokenizer; ImportError when it cannot be had."""
        self._load = load or load_tokenizer
        self._usable: dict[str, tuple[Tokenizer | None, CountTexts]] = {}
        """By name: how it counts, and what counts in its place where it cannot be had."""
        self._known: dict[bytes, tuple[int, bool]] = {}
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def is_loaded(self, tokenizer: Tokenizer) -> bool:
        """Whether counting by it needs no loading any more."""
        return tokenizer.name in self._usable

    async def load(self, tokenizer: Tokenizer) -> None:
        """Load it in a thread, if it is not here yet."""
        if not self.is_loaded(tokenizer):
            await self._in_thread(lambda: self._use(tokenizer))

    async def count(self, body: Body, tokenizer: Tokenizer) -> TokenCount:
        """The tokens of a chat body."""
        size = len(body.raw("messages") or b"")
        if size <= MAX_INLINE_BYTES and self.is_loaded(tokenizer):
            return self.count_now(body, tokenizer)
        return await self._in_thread(lambda: self.count_now(body, tokenizer))

    def count_now(self, body: Body, tokenizer: Tokenizer) -> TokenCount:
        """The same at once, in this thread."""
        tokenizer, batch = self._use(tokenizer)
        messages = _decode_list(body.raw("messages") or b"[]")
        found = self._counts(messages, tokenizer, batch)
        texts = [(body.raw(name) or b"").decode(errors="replace") for name in _COUNTED_FIELDS if body.get(name)]
        plain = not texts
        prompt = body.get("system_prompt")
        beside = REPLY_TOKENS + (TOKENS_PER_MESSAGE + 1 if prompt else 0) + sum(batch([*texts, prompt] if prompt else texts))
        return TokenCount(
            messages=tuple(count for count, _ in found),
            overhead=beside,
            factor=tokenizer.factor,
            exact=tokenizer.exact and plain and all(each for _, each in found),
            tokenizer=tokenizer.label(),
        )

    def _counts(self, messages: Sequence[msgspec.Raw], tokenizer: Tokenizer, batch: CountTexts) -> list[tuple[int, bool]]:
        """Tokens of each message, and whether it is plain text; all that is new is counted in one batch."""
        salt = hashlib.blake2b(tokenizer.name.encode(), digest_size=16).digest()
        keys = [hashlib.blake2b(message, digest_size=16, key=salt).digest() for message in messages]
        found = [self._known.get(key) for key in keys]
        new = [at for at, one in enumerate(found) if one is None]
        parsed = [read_message(messages[at]) for at in new]
        counts = iter(batch([text for texts, _, _ in parsed for text in texts]))
        for at, (texts, fixed, plain) in zip(new, parsed, strict=True):
            found[at] = fixed + sum(next(counts) for _ in texts), plain
        with self._lock:
            self._known.update({keys[at]: one for at in new if (one := found[at]) is not None})
            while len(self._known) > MAX_CACHED_COUNTS:
                del self._known[next(iter(self._known))]
        return [one for one in found if one is not None]

    def _use(self, tokenizer: Tokenizer) -> tuple[Tokenizer, CountTexts]:
        """The tokenizer and how it counts; the stand-in, then bytes, where it cannot be had."""
        found = self._usable.get(tokenizer.name)
        if found is None:
            try:
                found = None, self._load(tokenizer)
            except ImportError:
                found = self._use(FALLBACK) if tokenizer.file else (BY_BYTES, count_bytes)
            self._usable[tokenizer.name] = found
        return found[0] or tokenizer, found[1]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, thread_name_prefix="tokens")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def read_message(source: msgspec.Raw) -> tuple[list[str], int, bool]:
    """The texts of a message that are counted, tokens besides them, and whether it is plain text."""
    try:
        message: dict[str, Any] = _decode(source)
    except ValueError:  # bytes that are no UTF-8: no tokenizer takes them
        return [], TOKENS_PER_MESSAGE + len(bytes(source)) // MIN_BYTES_PER_TOKEN, False
    texts: list[str] = []
    fixed, plain = TOKENS_PER_MESSAGE + 1, True
    content = message.get("content")
    if type(content) is str:
        texts.append(content)
    elif type(content) is list:
        for part in content:
            if part.get("type") == "text":
                texts.append(part.get("text") or "")
            else:
                fixed += _part_tokens(part)
                plain = False
    if type(message.get("name")) is str:
        texts.append(message["name"])
        fixed += TOKENS_PER_NAME
    for name in ("tool_calls", "function_call", "refusal", "reasoning_content", "tool_call_id"):
        value = message.get(name)
        if value:
            texts.append(value if type(value) is str else msgspec.json.encode(value).decode())
            plain = False
    return texts, fixed, plain


def _part_tokens(part: dict[str, Any]) -> int:
    """An image by its detail; anything else by its size."""
    image = part.get("image_url")
    if part.get("type") == "image_url":
        return TOKENS_PER_SMALL_IMAGE if type(image) is dict and image.get("detail") == "low" else TOKENS_PER_IMAGE
    return len(msgspec.json.encode(part)) // MIN_BYTES_PER_TOKEN


def count_bytes(texts: list[str]) -> list[int]:
    """Without a tokenizer: half a token a byte."""
    return [math.ceil(len(text.encode(errors="replace")) / MIN_BYTES_PER_TOKEN) for text in texts]


def load_tokenizer(tokenizer: Tokenizer) -> CountTexts:
    """The function that counts by a tokenizer; ImportError when its package is not installed or its file is none."""
    if tokenizer.file:
        package = importlib.import_module("tokenizers")
        try:
            library = package.Tokenizer.from_file(tokenizer.name)
        except Exception as error:  # the package has no narrower word for a file that is none
            raise ImportError(f"no tokenizer.json: {error}") from error
        return lambda texts: [len(one.ids) for one in library.encode_batch(texts, add_special_tokens=False)]
    toktok = importlib.import_module("toktok")
    toktok.batch_count([""], tokenizer.name)

    def count(texts: list[str]) -> list[int]:
        try:
            found: list[int] = toktok.batch_count(texts, tokenizer.name, threads=1)
        except UnicodeEncodeError:  # half of a surrogate pair
            found = toktok.batch_count([text.encode(errors="replace").decode() for text in texts], tokenizer.name, threads=1)
        return found

    return count


SHARED_COUNTER = TokenCounter()
"""One for the process: encodings are large, and what was counted outlives a configuration."""
