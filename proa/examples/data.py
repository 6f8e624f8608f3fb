"""The text as numbers: tokens to learn from, windows to be judged on, and the figures of both."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

import proa as pa
from proa.errors import ArgumentError
from proa.examples.gpt import GPT
from proa.examples.settings import Settings, refusal
from proa.examples.text import bpe, corpus, ngram


@final
@dataclass(frozen=True)
class Exam:
    """Windows spread evenly over the held-out text: every model is judged on the same bytes.

    The first token of a window is only seen, and the other `context` are to be told.
    """

    ids: Any
    size: int
    trigram: float

    @classmethod
    def of(
        cls, data: bytes, tokenizer: bpe.Tokenizer, trigram: ngram.Ngram, settings: Settings
    ) -> Exam:
        """Cut the windows, which do not overlap, and judge a 3-gram model on the same bytes."""
        ids, context = tokenizer.encode(data), settings.context
        room = len(ids) - context - 1
        if room < 0:
            hint = f"a longer text, or a context below {len(ids)}"
            raise refusal(f"{len(ids)} tokens of held-out text", f"more than {context}", hint)
        count = min(settings.windows, room // context + 1)
        starts = np.arange(count) * room // max(1, count - 1)
        ends = np.cumsum(tokenizer.lengths[ids])
        first, last = ends[starts], ends[starts + context]
        # log P(b | a) = log P(a b) - log P(a), and a 3-gram model sees two bytes back.
        bits = sum(
            _bits(trigram, data[max(0, a - 2) : b]) - _bits(trigram, data[max(0, a - 2) : a])
            for a, b in zip(first, last, strict=True)
        )
        windows = ids[starts[:, None] + np.arange(context + 1)].astype(np.int64)
        return cls(windows, int((last - first).sum()), bits / int((last - first).sum()))

    def bits_per_byte(self, model: GPT, batch: int = 32) -> float:
        """The mean of -log2 P, by byte: the size of the text when the model compresses it."""
        nats = 0.0
        with pa.no_grad():
            for start in range(0, len(self.ids), batch):
                rows = self.ids[start : start + batch]
                nats += model.loss(pa.asarray(rows)).item() * rows[:, 1:].size
        return nats / math.log(2) / self.size


def _bits(trigram: ngram.Ngram, data: bytes) -> float:
    return trigram.bits_per_byte(data) * len(data)


@final
@dataclass(frozen=True)
class Text:
    """The text as numbers: a tokenizer, the tokens to learn from, the windows to be judged on."""

    corpus: corpus.Corpus
    tokenizer: bpe.Tokenizer
    ids: Any
    exam: Exam
    trigram: float

    @classmethod
    def of(cls, settings: Settings) -> Text:
        """Read the text, learn byte pairs on the part to learn from, and fit the 3-gram model."""
        try:
            found = corpus.collect(settings.text)
        except ValueError as error:
            raise ArgumentError(str(error)) from error
        tokenizer = bpe.train(found.train, settings.vocabulary)
        ids = tokenizer.encode(found.train).astype(np.int64)
        if len(ids) <= settings.context:
            raise refusal(f"{len(ids)} tokens", f"more than {settings.context}", "a longer text")
        trigram = ngram.fit(found.train)
        exam = Exam.of(found.held_out, tokenizer, trigram, settings)
        return cls(found, tokenizer, ids, exam, trigram.bits_per_byte(found.held_out))

    def __str__(self) -> str:
        learn, held = len(self.corpus.train), len(self.corpus.held_out)
        return f"{self.corpus.source}, {learn:,} bytes to learn from, {held:,} held out"

    @property
    def bytes_per_token(self) -> float:
        """How long a token is, on the average."""
        return len(self.corpus.train) / len(self.ids)

    @property
    def digest(self) -> str:
        """A number that tells whether this is the same text, cut into the same tokens."""
        return hashlib.sha256(self.ids.tobytes() + self.exam.ids.tobytes()).hexdigest()

    def figures(self) -> dict[str, Any]:
        """What a report says of the text."""
        return {
            "source": self.corpus.source,
            "files": self.corpus.files,
            "bytes_to_learn": len(self.corpus.train),
            "bytes_held_out": len(self.corpus.held_out),
            "bytes_judged": self.exam.size,
            "tokens": self.tokenizer.size,
            "bytes_per_token": self.bytes_per_token,
            "bits_per_byte_trigram": self.exam.trigram,
            "bits_per_byte_trigram_on_all": self.trigram,
        }
