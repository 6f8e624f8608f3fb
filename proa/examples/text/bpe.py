"""Byte-pair encoding: text as numbers, one for each common run of bytes.

A token is a byte or two earlier tokens joined.
Text is first cut into pieces (words, numbers, marks, spaces), and no token crosses a piece's edge.
Equal pieces encode equally, so all work is done once on the distinct ones.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

BYTES = 256
LARGEST = 4096
LONGEST = 65
JSON_LIMIT = 1 << 20

# Every byte falls into one of the four kinds, so that the pieces join to the text again.
# The bound of 64 keeps any token short, whatever the text.
PIECE = (
    rb" ?[A-Za-z_\x80-\xff]{1,64}"
    rb"| ?[0-9]{1,64}"
    rb"| ?[^\sA-Za-z0-9_\x80-\xff]{1,64}"
    rb"|\s{1,64}"
)

Ids = NDArray[np.uint16]
Owners = NDArray[np.intp]


@final
@dataclass(frozen=True)
class Tokenizer:
    """Tokens learned from a text: the 256 bytes, then one for each merge.

    Arguments:
        merges: the pairs of tokens joined, in order; merge k makes token 256 + k.

    Errors:
        ValueError: a merge is not a pair of earlier tokens, occurs twice or is over 65 bytes.

    Source: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword
    Units", ACL 2016 (there over characters, here over bytes).

    Example:
        >>> tokenizer = Tokenizer(((97, 98),))
        >>> tokenizer.encode(b"abba").tolist()
        [256, 98, 97]
        >>> tokenizer.decode([256, 98, 97])
        b'abba'
    """

    merges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        _check_merges(self.merges)

    @property
    def size(self) -> int:
        """The number of tokens: ids are 0 to size - 1.

        Example:
            >>> Tokenizer(((97, 98),)).size
            257
        """
        return BYTES + len(self.merges)

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of each token.

        Example:
            >>> Tokenizer(((97, 98),)).tokens[256]
            b'ab'
        """
        table = [bytes([value]) for value in range(BYTES)]
        for left, right in self.merges:
            table.append(table[left] + table[right])
        return tuple(table)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The number of bytes of each token: the loss per token becomes bits per byte with it.

        Example:
            >>> Tokenizer(((97, 98),)).lengths[[97, 256]].tolist()
            [1, 2]
        """
        return np.array([len(token) for token in self.tokens], np.int64)

    def encode(self, data: bytes) -> Ids:
        """Turn bytes into the ids of tokens; `decode` gives exactly the same bytes back.

        Within each piece, the merges are done in the order in which they were learned.

        Arguments:
            data: any bytes, text or not.

        Example:
            >>> Tokenizer(((97, 98), (256, 256))).encode(b"ababab").tolist()
            [257, 256]
        """
        index: dict[bytes, int] = {}
        places = (index.setdefault(piece, len(index)) for piece in _pieces(data))
        order = np.fromiter(places, np.intp)
        ids, owner = _flatten(list(index))
        for new, pair in enumerate(self.merges, BYTES):
            ids, owner = _merge(ids, owner, pair, new)
        return _gather(ids, np.bincount(owner, minlength=len(index)), order)

    def decode(self, ids: ArrayLike) -> bytes:
        """Turn ids of tokens back into bytes.

        Arguments:
            ids: whole numbers from 0 to size - 1, in one dimension.

        Errors:
            ValueError: other numbers, or another shape.

        Example:
            >>> Tokenizer(()).decode([104, 105])
            b'hi'
        """
        array = np.asarray(ids)
        if array.size == 0:
            return b""
        whole = array.ndim == 1 and array.dtype.kind in "iu"
        if not whole or array.min() < 0 or array.max() >= self.size:
            raise ValueError(
                f"[bpe.decode] given {array.dtype} of shape {array.shape}, "
                f"expected whole numbers from 0 to {self.size - 1} in a row, try what encode gives"
            )
        return b"".join(map(self.tokens.__getitem__, array.tolist()))

    def to_json(self) -> str:
        """Write the tokenizer as JSON; `from_json` reads it.

        Example:
            >>> Tokenizer(((97, 98),)).to_json()
            '{"merges": [[97, 98]]}'
        """
        return json.dumps({"merges": self.merges})

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read a tokenizer written by `to_json`; the text is not trusted.

        Arguments:
            text: at most 1 MiB of JSON.

        Errors:
            ValueError: too long, not JSON, or merges that `Tokenizer` refuses.

        Example:
            >>> Tokenizer.from_json('{"merges": [[97, 98]]}').size
            257
        """
        return cls(tuple(_parse(text)))


def train(data: bytes, vocabulary: int) -> Tokenizer:
    """Learn tokens: the pair of neighbours that is most frequent is joined, again and again.

    Each step makes the pair (a, b) with the largest count of "a then b" within pieces a token;
    the lowest pair wins a tie.
    A run such as "aaa" counts its overlapping pairs, here two.
    Fewer tokens result where no pair is left that occurs twice.

    Arguments:
        data: the text to learn from.
        vocabulary: the number of tokens, 256 to 4096.

    Errors:
        ValueError: a vocabulary out of range.

    Source: Sennrich, Haddow and Birch, ACL 2016 (see `Tokenizer`).

    Example:
        >>> train(b"low lower lowest", 258).tokens[256:]
        (b'lo', b'low')
    """
    if not BYTES <= vocabulary <= LARGEST:
        raise ValueError(
            f"[bpe.train] given a vocabulary of {vocabulary}, expected {BYTES} to {LARGEST}, "
            "try 512"
        )
    counts = Counter(_pieces(data))
    weight = np.array(list(counts.values()), np.float64)
    ids, owner = _flatten(list(counts))
    merges: list[tuple[int, int]] = []
    for new in range(BYTES, vocabulary):
        pair = _commonest(ids, owner, weight, new)
        if pair is None:
            break
        merges.append(pair)
        ids, owner = _merge(ids, owner, pair, new)
    return Tokenizer(tuple(merges))


def _pieces(data: bytes) -> Iterator[bytes]:
    # One at a time: a list of all pieces takes ten times the memory of the text.
    return (match[0] for match in re.finditer(PIECE, data))


def _flatten(pieces: list[bytes]) -> tuple[Ids, Owners]:
    """The bytes of all pieces in a row, and for each the number of its piece."""
    ids = np.frombuffer(b"".join(pieces), np.uint8).astype(np.uint16)
    lengths = np.array([len(piece) for piece in pieces], np.intp)
    return ids, np.repeat(np.arange(len(pieces)), lengths)


def _commonest(
    ids: Ids, owner: Owners, weight: NDArray[np.float64], size: int
) -> tuple[int, int] | None:
    inside = np.flatnonzero(owner[:-1] == owner[1:])
    if inside.size == 0:
        return None
    codes = ids[inside].astype(np.intp) * size + ids[inside + 1]
    totals = np.bincount(codes, weight[owner[inside]])
    best = int(totals.argmax())
    return divmod(best, size) if totals[best] >= 2 else None


def _merge(ids: Ids, owner: Owners, pair: tuple[int, int], new: int) -> tuple[Ids, Owners]:
    left, right = pair
    hits = np.flatnonzero((ids[:-1] == left) & (ids[1:] == right))
    hits = hits[owner[hits] == owner[hits + 1]]
    if left == right:
        hits = _apart(hits)
    if hits.size == 0:
        return ids, owner
    ids[hits] = new
    keep = np.ones(ids.size, bool)
    keep[hits + 1] = False
    return ids[keep], owner[keep]


def _apart(hits: NDArray[np.intp]) -> NDArray[np.intp]:
    """Every second place of each run: in "aaa" the first two join, and the third stays."""
    begins = np.diff(hits, prepend=-2) != 1
    run = np.cumsum(begins) - 1
    second = (hits - hits[begins][run]) % 2 == 1
    apart: NDArray[np.intp] = hits[~second]
    return apart


def _gather(ids: Ids, lengths: NDArray[np.intp], order: NDArray[np.intp]) -> Ids:
    """The ids of the pieces, in the order of the text."""
    starts = np.cumsum(lengths) - lengths
    sizes = lengths[order]
    shift = starts[order] - (np.cumsum(sizes) - sizes)
    gathered: Ids = ids[np.repeat(shift, sizes) + np.arange(sizes.sum())]
    return gathered


def _parse(text: str) -> list[Any]:
    if not isinstance(text, str) or len(text) > JSON_LIMIT:
        raise _refusal("no text or too much of it", f"at most {JSON_LIMIT} characters of JSON")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refusal("a text that is not JSON", "what to_json writes") from error
    if not isinstance(document, dict) or not isinstance(document.get("merges"), list):
        raise _refusal("JSON without a list of merges", '{"merges": [[97, 98], ...]}')
    return [tuple(merge) if isinstance(merge, list) else () for merge in document["merges"]]


def _check_merges(merges: tuple[tuple[int, int], ...]) -> None:
    if len(merges) > LARGEST - BYTES:
        raise _refusal(f"{len(merges)} merges", f"at most {LARGEST - BYTES}")
    lengths = [1] * BYTES
    for merge in merges:
        _check_merge(merge, len(lengths))
        # Merges that double each time would make one token larger than any memory.
        lengths.append(lengths[merge[0]] + lengths[merge[1]])
        if lengths[-1] > LONGEST:
            raise _refusal(f"a token of {lengths[-1]} bytes", f"at most {LONGEST}")
    if len(set(merges)) < len(merges):
        raise _refusal("a merge twice", "each pair once")


def _check_merge(merge: Any, known: int) -> None:
    if len(merge) != 2 or any(type(part) is not int for part in merge):
        raise _refusal("a merge that is no pair of whole numbers", "two numbers of tokens")
    if not all(0 <= part < known for part in merge):
        raise _refusal(f"a merge {merge} for token {known}", f"two tokens from 0 to {known - 1}")


def _refusal(given: str, expected: str) -> ValueError:
    return ValueError(
        f"[bpe.Tokenizer] given {given}, expected {expected}, try a tokenizer made by bpe.train"
    )
