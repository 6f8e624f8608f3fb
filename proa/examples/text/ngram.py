"""A 3-gram model over bytes: the simple opponent that a neural network has to beat.

The model counts which byte follows which two, and mixes in shorter contexts where the longer
one has been seen too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

BYTES = 256
HIGHEST = 3

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class _Level:
    """The counts of all runs of k bytes; a run is one number, its bytes as digits in base 256.

    Arguments:
        grams: the runs that occur, ascending.
        counts: how often each occurs.
        totals: for each context (the first k - 1 bytes), how often something follows it.
        kinds: for each context, how many different bytes follow it.
    """

    grams: Codes
    counts: NDArray[np.int64]
    totals: Floats
    kinds: Floats

    def mix(self, codes: Codes, lower: Floats) -> Floats:
        """P_k of each run, from P_(k-1); a context never seen leaves P_(k-1) as it is."""
        context = codes // BYTES
        total, kinds = self.totals[context], self.kinds[context]
        weight = np.maximum(total + kinds, 1.0)
        mixed = (self._count(codes) + kinds * lower) / weight
        return np.where(total > 0, mixed, lower)

    def _count(self, codes: Codes) -> NDArray[np.int64]:
        if self.grams.size == 0:
            return np.zeros(codes.shape, np.int64)
        place = np.minimum(np.searchsorted(self.grams, codes), self.grams.size - 1)
        return np.where(self.grams[place] == codes, self.counts[place], 0)


@final
@dataclass(frozen=True)
class Ngram:
    """An interpolated model of bytes with Witten-Bell smoothing; made by `fit`.

    With c(h w) the count of byte w after the context h of k - 1 bytes, c(h) its sum over w,
    T(h) the number of different w after h, and h' the context h without its first byte:

        P_0(w)     = 1 / 256
        P_k(w | h) = (c(h w) + T(h) P_(k-1)(w | h')) / (c(h) + T(h))

    and P_k(w | h) = P_(k-1)(w | h') where h never occurs.
    All P_k sum to one over the 256 bytes, for any context.

    Arguments:
        levels: the counts of 1 byte, 2 bytes, up to the order of the model.

    Source: Witten and Bell, "The zero-frequency problem", IEEE Transactions on Information
    Theory 37(4), 1991; Chen and Goodman, "An Empirical Study of Smoothing Techniques for
    Language Modeling", Harvard TR-10-98, 1998.

    Example:
        >>> model = fit(b"abcabcabc")
        >>> bytes([model.probabilities(b"ab").argmax()])
        b'c'
    """

    levels: tuple[_Level, ...]

    def probabilities(self, context: bytes) -> Floats:
        """The probability of each of the 256 bytes to come next.

        Arguments:
            context: the bytes before; the last two count, and fewer will do.

        Example:
            >>> float(fit(b"abcabc").probabilities(b"").sum().round(9))
            1.0
        """
        known = min(len(context), len(self.levels) - 1)
        tail = context[len(context) - known :]
        codes = int.from_bytes(tail, "big") * BYTES + np.arange(BYTES, dtype=np.int32)
        return self._probability(codes, known + 1)

    def bits_per_byte(self, held_out: bytes) -> float:
        """The mean of -log2 P(byte | the bytes before), the size of the text when compressed.

        The first bytes have a shorter context, and are judged by the lower orders.

        Arguments:
            held_out: text that the model was not fitted on.

        Errors:
            ValueError: there are no bytes.

        Example:
            >>> fit(b"").bits_per_byte(b"any text")
            8.0
        """
        if not held_out:
            raise ValueError(
                "[ngram.bits_per_byte] given 0 bytes, expected at least 1, try a longer text"
            )
        order = len(self.levels)
        bits = self._bits(held_out, order)
        for known in range(1, min(order - 1, len(held_out)) + 1):
            bits += self._bits(held_out[:known], known)
        return bits / len(held_out)

    def _bits(self, data: bytes, order: int) -> float:
        return float(-np.log2(self._probability(_codes(data, order), order)).sum())

    def _probability(self, codes: Codes, order: int) -> Floats:
        probability = np.full(codes.shape, 1 / BYTES)
        for k, level in enumerate(self.levels[:order], 1):
            probability = level.mix(codes % BYTES**k, probability)
        return probability


def fit(data: bytes, order: int = 3) -> Ngram:
    """Count the runs of 1 to `order` bytes of a text.

    Arguments:
        data: the text to learn from; none at all gives 1 / 256 for every byte.
        order: the longest run, 1 to 3.

    Errors:
        ValueError: an order out of range.

    Example:
        >>> round(fit(b"abcabcabc" * 100).bits_per_byte(b"abcabc"), 2)
        0.27
    """
    if not 1 <= order <= HIGHEST:
        raise ValueError(f"[ngram.fit] given order {order}, expected 1 to {HIGHEST}, try 3")
    return Ngram(tuple(_level(data, k) for k in range(1, order + 1)))


def _level(data: bytes, k: int) -> _Level:
    grams, counts = np.unique(_codes(data, k), return_counts=True)
    context = grams // BYTES
    contexts = BYTES ** (k - 1)
    totals = np.bincount(context, counts, contexts).astype(np.float64)
    kinds = np.bincount(context, minlength=contexts).astype(np.float64)
    return _Level(grams, counts, totals, kinds)


def _codes(data: bytes, k: int) -> Codes:
    """Every run of k bytes, as the digits of one number in base 256."""
    symbols = np.frombuffer(data, np.uint8)
    codes = np.zeros(max(0, len(data) - k + 1), np.int32)
    for start in range(k):
        codes = codes * BYTES + symbols[start : start + codes.size]
    return codes
