"""How a model writes: tokens drawn one after the other, and the text that they stand for."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

import proa as pa
from proa.errors import ArgumentError, message
from proa.examples.gpt import GPT
from proa.examples.text import bpe


def generate(
    model: GPT,
    ids: Sequence[int],
    count: int,
    *,
    temperature: float = 0.8,
    top_k: int = 40,
    seed: int = 0,
    first: Collection[int] = (),
) -> Iterator[int]:
    """Write tokens, one after the other; equal arguments give equal tokens.

    The window is always a full context, filled up behind the last token: no token sees those
    behind it, and with one shape there is one program.

    Arguments:
        model: what to ask.
        ids: the tokens to go on from, at least one.
        count: how many to write.
        temperature: 1 draws as the model says, less is bolder, 0 always takes the most probable.
        top_k: only the k most probable tokens are drawn; 0 for all.
        seed: where the random numbers begin.
        first: if there are any, the first new token is one of them.

    Errors:
        ArgumentError: no ids, or ids outside the vocabulary.
    """
    size, context, home = model.config.vocabulary, model.config.context, model.token.weight.device
    written = [int(i) for i in ids]
    if not written or not all(0 <= i < size for i in written):
        raise ArgumentError(message("generate", f"ids {written!r:.60}", f"some, each below {size}"))
    random = np.random.default_rng(seed)
    allowed = np.isin(np.arange(size), list(first)) if first else np.ones(size, bool)
    for _ in range(count):
        seen = written[-context:]
        window = np.zeros((1, context), np.int64)
        window[0, : len(seen)] = seen
        with pa.no_grad():
            scores = model(pa.asarray(window, device=home))[0, len(seen) - 1].numpy()
        written.append(_draw(np.where(allowed, scores, -np.inf), temperature, top_k, random))
        allowed = np.ones(size, bool)
        yield written[-1]


def _draw(scores: Any, temperature: float, top_k: int, random: np.random.Generator) -> int:
    if temperature <= 0:
        return int(scores.argmax())
    scores = scores.astype(np.float64)
    if 0 < top_k < scores.size:
        scores = np.where(scores >= np.partition(scores, -top_k)[-top_k], scores, -np.inf)
    chances = np.exp((scores - scores.max()) / temperature).cumsum()
    # The last place is reached where rounding leaves nothing beyond the drawn number.
    place = np.searchsorted(chances, random.random() * chances[-1], side="right")
    return int(min(place, np.searchsorted(chances, chances[-1])))


def write(
    model: GPT,
    tokenizer: bpe.Tokenizer,
    prompt: str,
    *,
    tokens: int = 80,
    temperature: float = 0.8,
    top_k: int = 40,
    seed: int = 0,
) -> str:
    """What the model writes after a prompt, without the prompt; the whole of `stream`."""
    return "".join(stream(model, tokenizer, prompt, tokens, temperature, top_k, seed))


def stream(
    model: GPT,
    tokenizer: bpe.Tokenizer,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
) -> Iterator[str]:
    """What the model writes after a prompt, piece by piece.

    The prompt's last token is taken back, and the first new one has to begin with its bytes:
    "def " ends in a space, but in the text that the model knows a space belongs to the next word.

    Arguments:
        model, tokenizer: as `saved.load` gives them.
        prompt: any text; none at all is the start of a line.
        tokens, temperature, top_k, seed: see `generate`.
    """
    before = b"\n" + prompt.encode("utf-8", "replace")
    *ids, last = [int(i) for i in tokenizer.encode(before)]
    taken = tokenizer.tokens[last] if ids else b""
    if not ids:
        ids = [last]
    first = [i for i, token in enumerate(tokenizer.tokens) if token.startswith(taken)]
    decoder = getincrementaldecoder("utf-8")("replace")
    skip = len(taken)
    for new in generate(
        model, ids, tokens, temperature=temperature, top_k=top_k, seed=seed, first=first
    ):
        yield _printable(decoder.decode(tokenizer.tokens[new][skip:]))
        skip = 0
    yield _printable(decoder.decode(b"", final=True))


def _printable(text: str) -> str:
    """A text may hold what a terminal would obey."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
