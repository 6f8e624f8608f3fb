"""The text demo's tools, seen from outside: corpus, byte-pair encoding, 3-gram model."""

import json
import math
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.examples.text import bpe, corpus, ngram

SAMPLE = b"def lower(self, low):\n    return self.lowest(low, lower)\n\n" * 20
TOKENIZER = bpe.train(SAMPLE, 300)
ANY = st.binary(max_size=300) | st.text(alphabet=" \nadeflow", max_size=300).map(str.encode)


def fill(folder: Path, count: int, size: int = 1000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i:03}.txt").write_bytes((b"%03d\n" % i) * (size // 4))


# Corpus


def test_library_is_split_by_whole_files_and_always_the_same():
    first, second = corpus.collect(), corpus.collect()
    assert first == second
    assert len(first.train) > len(first.held_out) > 0
    assert first.files > 100
    assert "standard library" in first.source


def test_library_leaves_out_tests_and_installed_packages():
    text = corpus.collect()
    whole = text.train + text.held_out
    assert Path(json.__file__).read_bytes() in whole
    assert Path(np.__file__).read_bytes() not in whole


def test_folder_holds_out_every_tenth_file(tmp_path):
    fill(tmp_path, 25)
    text = corpus.collect(tmp_path)
    assert text.held_out == b"".join((b"%03d\n" % i) * 250 for i in (0, 10, 20))
    assert len(text.train) == 22_000
    assert (text.files, text.skipped) == (25, 0)


def test_folder_is_read_in_order_of_relative_path(tmp_path):
    fill(tmp_path / "b", 10)
    fill(tmp_path / "a", 10)
    (tmp_path / "a" / "000.txt").write_bytes(b"first" * 100)
    assert corpus.collect(tmp_path).held_out.startswith(b"first")


def test_few_files_are_split_by_lines(tmp_path):
    fill(tmp_path, 3, size=4000)
    text = corpus.collect(str(tmp_path))
    assert len(text.train) + len(text.held_out) == 12_000
    assert 0.05 < len(text.held_out) / 12_000 < 0.2


def test_one_file_is_split_by_runs_of_lines(tmp_path):
    lines = [b"line %d\n" % i for i in range(1280)]
    (tmp_path / "one.txt").write_bytes(b"".join(lines))
    text = corpus.collect(tmp_path / "one.txt")
    assert text.held_out == b"".join(lines[:64] + lines[640:704])
    assert text.train == b"".join(lines[64:640] + lines[704:])


def test_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\[corpus\] given .*nothing.*expected.*try"):
        corpus.collect(tmp_path / "none")


@pytest.mark.parametrize("name", ["zero\0byte", "x" * 5000])
def test_impossible_path(name):
    with pytest.raises(FileNotFoundError, match=r"\[corpus\]"):
        corpus.collect(name)


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"\[corpus\] given folder"):
        corpus.collect(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\0" * 9000, b"\xff\xfe" * 9000, b"short\n" * 20])
def test_file_that_is_no_text_or_too_small(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=r"\[corpus\] given .*expected.*try"):
        corpus.collect(tmp_path / "file")


def test_one_endless_line_cannot_be_split(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 9000)
    with pytest.raises(ValueError, match="lines"):
        corpus.collect(tmp_path / "file")


def test_binary_files_are_skipped_and_counted(tmp_path):
    fill(tmp_path, 10)
    (tmp_path / "picture").write_bytes(b"\x89PNG\0")
    (tmp_path / "latin").write_bytes("é".encode("latin-1") * 100)
    text = corpus.collect(tmp_path)
    assert (text.files, text.skipped) == (10, 2)


def test_large_binary_file_does_not_count_against_the_cap(tmp_path):
    fill(tmp_path, 10)
    (tmp_path / "000.bin").write_bytes(bytes(100_000))
    assert corpus.collect(tmp_path, cap=20_000).files == 10


def test_hidden_files_are_left_out(tmp_path):
    fill(tmp_path, 10)
    fill(tmp_path / ".git", 10)
    assert corpus.collect(tmp_path).files == 10


def test_links_are_skipped(tmp_path):
    fill(tmp_path / "inside", 10)
    fill(tmp_path / "outside", 10)
    (tmp_path / "inside" / "file").symlink_to(tmp_path / "outside" / "000.txt")
    (tmp_path / "inside" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "loop").symlink_to(tmp_path / "inside")
    (tmp_path / "inside" / "broken").symlink_to(tmp_path / "none")
    text = corpus.collect(tmp_path / "inside")
    assert (text.files, text.skipped) == (10, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_is_skipped(tmp_path):
    fill(tmp_path, 10)
    os.mkfifo(tmp_path / "pipe")
    assert corpus.collect(tmp_path).skipped == 1
    with pytest.raises(ValueError, match="without any text"):
        corpus.collect(tmp_path / "pipe")


def test_cap(tmp_path):
    fill(tmp_path, 10)
    assert corpus.collect(tmp_path, cap=10_000).files == 10
    with pytest.raises(ValueError, match=r"more than 9999 bytes.*larger cap"):
        corpus.collect(tmp_path, cap=9999)


# Byte-pair encoding


def slow_encode(tokenizer, piece):
    """The definition: within one piece, join the earliest learned pair from left to right."""
    ids = list(piece)
    for new, (left, right) in enumerate(tokenizer.merges, 256):
        done = []
        while ids:
            join = ids[:2] == [left, right]
            done.append(new if join else ids[0])
            ids = ids[2 if join else 1 :]
        ids = done
    return ids


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_round_trip_of_any_bytes(data):
    ids = TOKENIZER.encode(data)
    assert ids.dtype == np.uint16
    assert TOKENIZER.decode(ids) == data
    assert TOKENIZER.lengths[ids].sum() == len(data)


@pytest.mark.parametrize("size", range(1, 20))
def test_encoding_follows_the_definition_on_runs(size):
    tokenizer = bpe.Tokenizer(((97, 97), (256, 256), (256, 97), (98, 97)))
    for piece in (b"a" * size, b"ab" * size, b"aab" * size):
        assert tokenizer.encode(piece).tolist() == slow_encode(tokenizer, piece)


@given(st.text(alphabet="deflowrst", max_size=64))
@settings(deadline=None)
def test_encoding_follows_the_definition_on_words(word):
    assert TOKENIZER.encode(word.encode()).tolist() == slow_encode(TOKENIZER, word.encode())


def test_the_most_frequent_pair_is_joined_first():
    assert bpe.train(b"xy xy xy zw zw", 257).merges == ((120, 121),)


def test_the_lowest_pair_wins_a_tie():
    assert bpe.train(b"zw xy zw xy", 257).merges == ((32, 120),)


def test_training_is_deterministic_and_shortens():
    assert bpe.train(SAMPLE, 300) == TOKENIZER
    assert TOKENIZER.size == len(TOKENIZER.lengths) == len(TOKENIZER.tokens) <= 300
    assert len(TOKENIZER.encode(SAMPLE)) < len(SAMPLE) / 2


def test_no_token_crosses_from_word_to_mark():
    assert b"self." not in TOKENIZER.tokens
    assert b"self" in TOKENIZER.tokens


@pytest.mark.parametrize("data", [b"", b"a", b"abcdef"])
def test_training_stops_where_no_pair_repeats(data):
    assert bpe.train(data, 512).size == 256


@pytest.mark.parametrize("vocabulary", [-1, 0, 255, 4097, 1 << 40])
def test_vocabulary_out_of_range(vocabulary):
    with pytest.raises(ValueError, match=r"\[bpe.train\] given .*expected 256 to 4096, try"):
        bpe.train(SAMPLE, vocabulary)


def test_long_runs_stay_short_tokens():
    tokenizer = bpe.train(b" " * 200_000 + b"a" * 200_000, 400)
    assert tokenizer.lengths.max() <= 65
    assert bpe.Tokenizer.from_json(tokenizer.to_json()) == tokenizer


@pytest.mark.parametrize("ids", [[-1], [256 + 300], [1.5], [[1, 2]], ["a"], [1 << 70]])
def test_decode_refuses_what_is_no_token(ids):
    with pytest.raises(ValueError, match=r"\[bpe.decode\] given .*expected.*try"):
        TOKENIZER.decode(ids)


def test_json_round_trip():
    assert bpe.Tokenizer.from_json(TOKENIZER.to_json()) == TOKENIZER


def doubling(steps):
    return [[97, 97]] + [[256 + i, 256 + i] for i in range(steps)]


HOSTILE = [
    [[97, 256]],
    [[-1, 97]],
    [[97]],
    [[97, 98, 99]],
    [[97.0, 98]],
    [[True, 98]],
    [["97", "98"]],
    [[None, 98]],
    [[[97], 98]],
    ["ab"],
    [{"97": 98, "99": 1}],
    [97],
    [[97, 98], [97, 98]],
    [[97, 98], [257, 97]],
    [[1 << 80, 98]],
    [[97, i] for i in range(256)] * 20,
    doubling(3000),
    {"0": [97, 98]},
    "ab",
    None,
]


@pytest.mark.parametrize("merges", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_merges_are_refused(merges):
    with pytest.raises(ValueError, match=r"\[bpe.Tokenizer\] given .*expected.*try"):
        bpe.Tokenizer.from_json(json.dumps({"merges": merges}))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", "[" * 100_000, '{"merges": NaN}', "9" * 9000, " " * 2_000_000],
    ids=range(9),
)
def test_hostile_json_is_refused(text):
    with pytest.raises(ValueError, match=r"\[bpe.Tokenizer\] given .*expected.*try"):
        bpe.Tokenizer.from_json(text)


@given(
    st.text(max_size=50)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.just("merges"), inner),
    ).map(json.dumps)
)
@settings(deadline=None)
def test_any_other_json_is_refused_or_a_tokenizer(text):
    try:
        tokenizer = bpe.Tokenizer.from_json(text)
    except ValueError:
        return
    assert tokenizer.decode(tokenizer.encode(SAMPLE)) == SAMPLE


# 3-gram model


def slow_probability(data, context, byte, k):
    """The formula, word for word."""
    if k == 0:
        return 1 / 256
    history = context[len(context) - (k - 1) :]
    follow = Counter(
        data[i + k - 1] for i in range(len(data) - k + 1) if data[i : i + k - 1] == history
    )
    lower = slow_probability(data, context, byte, k - 1)
    kinds, total = len(follow), sum(follow.values())
    return (follow[byte] + kinds * lower) / (total + kinds) if total else lower


def slow_bits(data, text):
    bits = 0.0
    for i, byte in enumerate(text):
        context = text[max(0, i - 2) : i]
        bits -= math.log2(slow_probability(data, context, byte, len(context) + 1))
    return bits / len(text)


@given(st.binary(max_size=200), st.binary(max_size=4))
@settings(deadline=None)
def test_probabilities_sum_to_one(data, context):
    for order in (1, 2, 3):
        probabilities = ngram.fit(data, order).probabilities(context)
        assert probabilities.shape == (256,)
        assert probabilities.min() > 0
        assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_probabilities_sum_to_one_for_contexts_of_a_text():
    model = ngram.fit(SAMPLE)
    for context in (b"", b"l", b"lo", b"low", b"\0\0", b"\xff\xff", b"q", b"lq"):
        assert model.probabilities(context).sum() == pytest.approx(1, abs=1e-12)


@given(
    st.text(alphabet="abc", max_size=60).map(str.encode),
    st.text(alphabet="abcd", min_size=1, max_size=12).map(str.encode),
)
@settings(deadline=None)
def test_model_follows_the_formula(data, text):
    model = ngram.fit(data)
    assert model.bits_per_byte(text) == pytest.approx(slow_bits(data, text), rel=1e-9)


def test_bits_are_those_of_the_probabilities():
    text = bytes(random.Random(0).choices(range(256), k=40)) + SAMPLE[:60]
    model = ngram.fit(SAMPLE)
    bits = [-math.log2(model.probabilities(text[:i])[byte]) for i, byte in enumerate(text)]
    assert model.bits_per_byte(text) == pytest.approx(sum(bits) / len(text))


def test_longer_contexts_help_and_repeat():
    figures = [ngram.fit(SAMPLE, order).bits_per_byte(SAMPLE) for order in (1, 2, 3)]
    assert figures == sorted(figures, reverse=True)
    assert figures == [ngram.fit(SAMPLE, order).bits_per_byte(SAMPLE) for order in (1, 2, 3)]


def test_nothing_learned_is_uniform():
    assert ngram.fit(b"").bits_per_byte(b"any") == 8


def test_empty_held_out_text():
    with pytest.raises(ValueError, match=r"\[ngram.bits_per_byte\] given 0 bytes.*try"):
        ngram.fit(SAMPLE).bits_per_byte(b"")


@pytest.mark.parametrize("order", [0, -1, 4])
def test_order_out_of_range(order):
    with pytest.raises(ValueError, match=r"\[ngram.fit\] given order"):
        ngram.fit(SAMPLE, order)


def test_model_of_the_library_beats_the_shorter_contexts():
    text = corpus.collect()
    figures = [ngram.fit(text.train, order).bits_per_byte(text.held_out) for order in (1, 2, 3)]
    assert figures[0] > figures[1] > figures[2]
    assert 2 < figures[2] < 3.2
