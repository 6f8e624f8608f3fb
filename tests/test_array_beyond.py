"""Functions beyond the standard against NumPy, in every mode: values, gradients, maps, jit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import proa as pa
from proa.errors import ArgumentError, DtypeError, JitError, ProaError, ShapeError
from proa.testing import assert_close, check_grads

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5))
LOST = np.where(RNG.random((4, 5)) < 0.3, np.nan, X)
LOST[3] = np.nan
IDS = np.array([2, 0, 2, 1])
NUMBERS = RNG.integers(0, 7, 20)
XP = np.sort(RNG.normal(size=6))
FP = RNG.normal(size=6)


class Case(NamedTuple):
    """A function of float64 arrays, the operands, and NumPy's answer; `smooth`: in every operand."""

    name: str
    function: Callable[..., Any]
    operands: tuple[Any, ...]
    expected: Any
    smooth: bool = True


def cases() -> Iterator[Case]:
    def case(
        name: str, *operands: Any, like: Any = None, smooth: bool = True, **named: Any
    ) -> Case:
        expected = getattr(np, name)(*operands, **named) if like is None else like
        return Case(
            f"{name} {named}",
            lambda *xs: getattr(pa, name)(*xs, **named),
            operands,
            expected,
            smooth,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for axis in (None, 0, 1, (0, 1)):
            for q in (0.0, 0.3, 0.5, 1.0):
                yield case("quantile", X, q=q, axis=axis, keepdims=axis == 1)
                yield case("nanquantile", LOST, q=q, axis=axis, smooth=False)
            yield case("median", X, axis=axis)
            yield case("nanmedian", LOST, axis=axis, smooth=False)
            for name in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"):
                yield case(name, LOST, axis=axis, keepdims=axis == 0, smooth=False)
            yield case("prod", X, axis=axis)
        many = np.quantile(X, [0.25, 0.75], axis=0)
        yield Case("quantiles", lambda x: pa.quantile(x, pa.asarray([0.25, 0.75]), 0), (X,), many)
        yield case("quantile", LOST, q=0.5, axis=1, smooth=False)
    for axis in (0, 1):
        yield case("cumulative_prod", X, axis=axis)
        yield case("cumulative_prod", X, axis=axis, include_initial=True)
        yield case("cummax", X, axis=axis, like=np.maximum.accumulate(X, axis))
        yield case("cummin", X, axis=axis, like=np.minimum.accumulate(X, axis))
        yield case("logcumsumexp", X, axis=axis, like=np.logaddexp.accumulate(X, axis))
        for largest in (True, False):
            order = np.sort(-X if largest else X, axis)
            kept = np.take(order * (-1 if largest else 1), range(2), axis)
            yield Case(
                f"topk {axis} {largest}",
                lambda x, a=axis, up=largest: pa.topk(x, 2, a, up).values,
                (X,), kept,
            )  # fmt: skip
    yield case("cov", X)
    yield case("cov", X[0])
    yield case("cov", X, correction=0, like=np.cov(X, ddof=0))
    yield case("corrcoef", X)
    yield case("interp", X * 2, XP, FP, smooth=False)
    yield case("interp", X * 2, XP, FP, left=-1.0, right=9.0, smooth=False)
    yield case("kron", X[:2, :3], X)
    yield case("kron", X[0], X)
    yield case("cross", X[:, :3], X[:, 1:4])
    yield case("cross", X[:3], X[1:], axis=0)
    for k in (-5, -2, 0, 1, 3, 6):
        yield case("diagonal", X, offset=k)
        yield case("trace", X, offset=k)
        yield case("diag", X[0], k=k)
        yield case("diag", X, k=k)
    yield case("diagonal", np.stack([X, X]), offset=1, like=np.diagonal(np.stack([X, X]), 1, 1, 2))
    for mode in ("edge", "reflect", "symmetric", "wrap"):
        yield case("pad", X, pad_width=((1, 2), (7, 3)), mode=mode)
        yield case("pad", X, pad_width=2, mode=mode)
    yield case("pad", X, pad_width=((1, 0), (2, 3)), constant_values=3.0)
    for density in (False, True):
        edges = np.histogram_bin_edges(X, 4)
        found = np.histogram(X, 4, density=density)[0].astype("f8")
        yield Case(
            f"histogram {density}",
            lambda x, d=density: pa.astype(pa.histogram(x, 4, density=d)[0], x.dtype),
            (X,), found, False,
        )  # fmt: skip
        yield Case("edges", lambda x: pa.histogram(x, 4)[1], (X,), edges, False)
    own = np.array([-1.0, 0.0, 0.5, 2.0])
    yield Case("own edges", lambda x, e: pa.astype(pa.histogram(x, e)[0], x.dtype), (X, own),
               np.histogram(X, own)[0].astype("f8"), False)  # fmt: skip
    yield case("repeat", X, repeats=[1, 0, 2, 3], axis=0)
    yield case("repeat", X, repeats=[2], axis=1)
    sums = np.zeros((3, 5))
    np.add.at(sums, IDS, X)
    yield Case("segment_sum", lambda x: pa.segment_sum(x, pa.asarray(IDS), 3), (X,), sums)
    means = sums / np.bincount(IDS)[:, None]
    yield Case("segment_mean", lambda x: pa.segment_mean(x, pa.asarray(IDS)), (X,), means)
    for name, join, start in (("max", np.maximum, -np.inf), ("min", np.minimum, np.inf)):
        most = np.full((4, 5), start)
        join.at(most, IDS, X)
        yield Case(f"segment_{name}", lambda x, n=name: getattr(pa, f"segment_{n}")(
            x, pa.asarray(IDS), 4), (X,), most, False)  # fmt: skip
        put = X.copy()
        join.at(put, (IDS[:, None], np.arange(5)), -X)
        yield Case(f"scatter_reduce {name}", lambda x, y, n=name: pa.scatter_reduce(
            x, 0, pa.asarray(np.repeat(IDS[:, None], 5, 1)), y, f"a{n}"), (X, -X), put)  # fmt: skip
    added = X.copy()
    np.add.at(added, (slice(None), IDS), 2 * X[:, :4])
    yield Case("index_add", lambda x, y: pa.index_add(x, 1, pa.asarray(IDS), y, alpha=2),
               (X, X[:, :4]), added)  # fmt: skip


CASES = list(cases())
IDS_OF_CASES = [f"{i} {c.name}" for i, c in enumerate(CASES)]


@pytest.mark.parametrize("case", CASES, ids=IDS_OF_CASES)
def test_values(case: Case) -> None:
    operands = [pa.asarray(o) for o in case.operands]
    found = case.function(*operands)
    assert_close(found, np.asarray(case.expected), rtol=1e-9, atol=1e-11)
    narrow = case.function(*[pa.asarray(o.astype(np.float32)) for o in case.operands])
    assert_close(narrow, np.asarray(case.expected, np.float32), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c.smooth][::3], ids=lambda c: c.name)
def test_gradients(case: Case) -> None:
    check_grads(case.function, tuple([pa.asarray(o) for o in case.operands]), order=2)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.smooth], ids=lambda c: c.name)
def test_all_gradients(case: Case) -> None:
    check_grads(case.function, tuple([pa.asarray(o) for o in case.operands]), order=2)


READS = ("segment_mean", "repeat", "histogram", "edges", "own")  # shapes that depend on values


@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.name.startswith(READS)][::4], ids=lambda c: c.name
)
def test_maps_and_jit(case: Case) -> None:
    operands = [pa.asarray(o) for o in case.operands]
    stacks = [pa.stack([o, o * 0.5]) for o in operands]
    rows = [case.function(*[s[i] for s in stacks]) for i in range(2)]
    mapped = pa.vmap(case.function)(*stacks)
    for i, row in enumerate(rows):
        assert_close(mapped[i], row.numpy(), rtol=1e-9, atol=1e-11)
    jitted, first = pa.jit(case.function), case.function(*operands).numpy()
    for _ in range(4):
        np.testing.assert_array_equal(jitted(*operands).numpy(), first)


# Products are differentiated right where elements are 0.


def test_products_at_zeros() -> None:
    x = pa.asarray([[0.0, 2.0, 3.0, -1.0], [0.0, 0.0, 1.0, 5.0], [1.0, 2.0, 3.0, 4.0]]).astype(
        pa.float64
    )
    g = pa.grad(lambda x: pa.prod(x, axis=1).sum())(x)
    assert g.tolist() == [[-6, 0, 0, 0], [0, 0, 0, 0], [24, 12, 8, 6]]
    for f in (
        lambda x: pa.prod(x, axis=1),
        lambda x: pa.prod(x, axis=(0, 1)),
        lambda x: pa.cumulative_prod(x, axis=1),
        lambda x: pa.cumulative_prod(pa.flip(x, axis=1), axis=1),
    ):
        check_grads(f, (x,), order=2)


def test_counts() -> None:
    assert pa.bincount(pa.asarray(NUMBERS)).tolist() == np.bincount(NUMBERS).tolist()
    weights = RNG.normal(size=20)
    found = pa.bincount(pa.asarray(NUMBERS), pa.asarray(weights), 10)
    assert_close(found, np.bincount(NUMBERS, weights, 10))
    f = pa.jit(lambda x: pa.bincount(x, length=7))
    for _ in range(4):
        assert f(pa.asarray(NUMBERS)).tolist() == np.bincount(NUMBERS, minlength=7).tolist()
    assert pa.bincount(pa.asarray([], dtype=pa.int64)).shape == (0,)
    assert pa.bincount(pa.asarray([-1, 1])).tolist() == [0, 1]
    for k in (-2, 0, 1):
        for name in ("tril_indices", "triu_indices"):
            mine = getattr(pa, name)(4, k, 5)
            for a, b in zip(mine, getattr(np, name)(4, k, 5), strict=True):
                assert a.tolist() == b.tolist()
    means = pa.scatter_reduce(
        pa.asarray([1.0, 2.0, 3.0]), 0, pa.asarray([0, 0]), pa.asarray([5.0, 9.0]), "mean"
    )
    assert means.tolist() == [5, 2, 3]
    assert pa.masked_fill(pa.asarray([1, 2]), pa.asarray([True, False]), 0).tolist() == [0, 2]


def test_running_extremes() -> None:
    nan = float("nan")
    x = pa.asarray([2.0, 3.0, 3.0, nan, 5.0]).requires_grad_()
    y = pa.cummax(x)
    np.testing.assert_array_equal(y.numpy(), [2, 3, 3, nan, nan])
    y[:3].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 1, 0, 0]
    assert pa.cummin(pa.asarray([2, 3, 1, 4])).tolist() == [2, 2, 1, 1]
    inf = float("inf")
    low = pa.logcumsumexp(pa.asarray([-inf, -inf, 0.0, inf, 1.0]))
    assert low.tolist() == [-inf, -inf, 0.0, inf, inf]


def test_searching() -> None:
    nan = float("nan")
    a = pa.asarray([1.0, 2.0, 2.0, nan])
    v = pa.asarray([0.0, 2.0, 3.0, nan, float("inf")])
    for side in ("left", "right"):
        expected = np.searchsorted(a.numpy(), v.numpy(), side=side)
        assert pa.searchsorted(a, v, side=side).tolist() == expected.tolist()
    f = pa.jit(pa.searchsorted)
    for _ in range(4):
        assert f(a, v).tolist() == np.searchsorted(a.numpy(), v.numpy()).tolist()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: pa.searchsorted(pa.ones((2, 2)), pa.ones(2)), ShapeError),
        (lambda: pa.searchsorted(pa.ones(2), pa.ones(2), side="middle"), ArgumentError),
        (lambda: pa.nonzero(pa.asarray(1.0)), ShapeError),
        (lambda: pa.bincount(pa.ones(2)), DtypeError),
        (lambda: pa.quantile(pa.ones(2), 1.5), ArgumentError),
        (lambda: pa.quantile(pa.ones(0), 0.5), ShapeError),
        (lambda: pa.topk(pa.ones(2), 3), ArgumentError),
        (lambda: pa.cross(pa.ones(2), pa.ones(2)), ShapeError),
        (lambda: pa.pad(pa.ones(2), (-1, 0)), ArgumentError),
        (lambda: pa.pad(pa.ones(0), 1, mode="edge"), ShapeError),
        (lambda: pa.pad(pa.ones(2), 1, mode="odd"), ArgumentError),
        (
            lambda: pa.scatter_reduce(pa.ones(2), 0, pa.asarray([0]), pa.ones(1), "prod"),
            ArgumentError,
        ),
        (lambda: pa.repeat(pa.ones(2), pa.asarray([1, -1])), ArgumentError),
        (lambda: pa.histogram(pa.ones(2), bins=0), ArgumentError),
        (lambda: pa.cumulative_prod(pa.ones((2, 2))), ArgumentError),
        (lambda: pa.vmap(pa.unique_values)(pa.ones((2, 2))), JitError),
    ],
)
def test_errors(call: Any, kind: type) -> None:
    with pytest.raises(kind, match=r"^\[.*given .*expected") as caught:
        call()
    assert isinstance(caught.value, ProaError)
