"""Reading and writing by index: NumPy's answers, one program, gradients, and lost writes."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proa as pa
from proa.errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    IndexingError,
    JitError,
    ShapeError,
)
from proa.record.key import pending
from proa.testing import check_grads

LIMITS = settings(max_examples=150, deadline=None)


@st.composite
def cases(draw: Any) -> tuple[Any, Any]:
    """A shape, and an index with at most one integer array."""
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=0, max_size=4)))
    count = draw(st.integers(0, len(shape)))
    front = draw(st.booleans())
    axes = range(count) if front else range(len(shape) - count, len(shape))
    items: list[Any] = []
    arrays = 0
    for a in axes:
        n = shape[a]
        kind = draw(st.sampled_from(["int", "slice", "slice", "array", "scalar"]))
        if kind in ("int", "scalar") and n:
            i = draw(st.integers(-n, n - 1))
            items.append(i if kind == "int" else pa.asarray(i))
        elif kind == "array" and n and not arrays:
            arrays = 1
            size = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=2)))
            found = draw(
                st.lists(
                    st.integers(-n, n - 1), min_size=int(np.prod(size)), max_size=int(np.prod(size))
                )
            )
            array = np.asarray(found, np.int64).reshape(size)
            items.append(draw(st.sampled_from([array, pa.asarray(array)])))
        else:
            ends = st.none() | st.integers(-7, 7)
            step = draw(st.none() | st.integers(-3, 3).filter(bool))
            items.append(slice(draw(ends), draw(ends), step))
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    if not front or draw(st.booleans()):
        items.insert(0 if not front else len(items), Ellipsis)
    return shape, tuple(items)


def numpy_index(x: Any, index: Any) -> Any:
    """NumPy's answer where an int drops its axis wherever it stands (as PyTorch has it)."""
    done = index
    ndim = x.ndim - sum(1 for i in index if i is not None and i is not Ellipsis)
    at = [i for i, item in enumerate(index) if item is Ellipsis]
    at = at[0] if at else len(index)
    full = [*done[:at], *[slice(None)] * ndim, *done[at + 1 :]]
    out, axis = x, 0
    for item in full:
        if item is None:
            out = np.expand_dims(out, axis)
            axis += 1
            continue
        if isinstance(item, pa.Tensor):
            item = item.numpy()
        out = out[(slice(None),) * axis + (item,)]
        axis += 1 if isinstance(item, slice) else np.ndim(item)
    return out


def numbers(shape: Any, dtype: Any = np.float32) -> Any:
    return np.arange(1, int(np.prod(shape)) + 1, dtype=dtype).reshape(shape)


@LIMITS
@given(cases())
def test_reading_as_numpy(case: Any) -> None:
    shape, index = case
    x = numbers(shape)
    found = pa.asarray(x)[index]
    expected = numpy_index(x, index)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.numpy(), expected)


@LIMITS
@given(cases(), st.sampled_from(["number", "same", "broadcast"]))
def test_writing_as_numpy(case: Any, kind: str) -> None:
    shape, index = case
    places = numpy_index(np.arange(int(np.prod(shape))).reshape(shape), index)
    new: Any = 100.0
    if kind == "same":
        new = -numbers(places.shape)
    elif kind == "broadcast" and places.ndim:
        new = -numbers(places.shape[-1:])
    expected = numbers(shape).reshape(-1)
    flat = np.broadcast_to(new, places.shape).reshape(-1)
    for place, value in zip(places.reshape(-1), flat, strict=True):
        expected[place] = value
    x = pa.asarray(numbers(shape))
    x[index] = new if isinstance(new, float) else pa.asarray(new)
    np.testing.assert_array_equal(x.numpy(), expected.reshape(shape))


@settings(max_examples=25, deadline=None)
@given(cases())
def test_gradients_of_reading_and_writing(case: Any) -> None:
    shape, index = case
    x = numbers(shape, np.float64) / 7.0
    size = numpy_index(x, index).shape

    def read(t: Any) -> Any:
        return (t[index] * t[index]).sum()

    def write(t: Any, v: Any) -> Any:
        y = t * 2.0
        y[index] = v * v
        return (y * y * y).sum()

    if "array" not in str([type(i) for i in index]):
        check_grads(read, [x], order=1, rtol=1e-4)
        check_grads(write, [x, np.ones(size) * 0.5], order=1, rtol=1e-4)


def test_second_derivatives_through_a_write() -> None:
    def f(t: Any, v: Any) -> Any:
        y = t * t
        y[1:] = y[:-1] * v
        y[0] += v[0]
        return (y * y).sum()

    check_grads(f, [np.array([0.5, 1.5, -0.7]), np.array([0.3, 2.0])], order=2)


def test_integers_of_the_program_are_inputs() -> None:
    data = pa.asarray(numbers((12, 3)))
    keys = {pending([data[i * 2 : (i + 1) * 2].value]).key for i in range(6)}
    assert len(keys) == 1
    keys = {pending([data[i].value]).key for i in range(12)}
    assert len(keys) == 1
    keys = {pending([data[i, -1].value]).key for i in (-12, 0, 3)}
    assert len(keys) == 1
    keys = set()
    for i in range(6):
        y = data + 1
        y[i : i + 2] = 5
        keys.add(pending([y.value]).key)
    assert len(keys) == 1


def test_whole_axes_are_left_out() -> None:
    x = pa.asarray(numbers((4, 3)))
    entry = x[1:3, :].value.node.entry
    assert entry.primitive.name == "dynamic_slice" and entry.named_params["axes"] == (0,)
    assert x[:].value.node.entry.primitive.name == "reshape"


def test_a_result_is_a_handle_of_its_own() -> None:
    x = pa.ones((2, 2))
    for y in (x[:], x[...], x[0:2], x[()]):
        assert y is not x
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y += 1
    assert x.tolist() == [[1, 1], [1, 1]]


def test_traced_index() -> None:
    x = pa.asarray(numbers((4, 3)))
    for i in (-4, 0, 3):
        t = pa.asarray(i)
        np.testing.assert_array_equal(x[t].numpy(), numbers((4, 3))[i])
        np.testing.assert_array_equal(x[1:, pa.asarray(1)].numpy(), numbers((4, 3))[1:, 1])
    assert np.isnan(x[pa.asarray(4)].numpy()).all()
    assert pa.asarray([1, 2])[pa.asarray(7)].item() == 0
    x[pa.asarray(2), 0] = -1
    assert x[2, 0].item() == -1
    x[pa.asarray(9)] = -5
    assert (x.numpy() >= -1).all()


def test_unsigned_and_small_indices() -> None:
    x = pa.asarray(numbers((300,)))
    for dtype in ("uint8", "int8", "uint64", "int32"):
        assert x[pa.asarray([5, 100], dtype=dtype)].tolist() == [6, 101]
    assert x[pa.asarray([-1], dtype="int8")].tolist() == [300]
    assert (
        x[[0, -1]].tolist() == [1, 300] and x[[]].shape == (0,) and x[range(2)].tolist() == [1, 2]
    )
    assert x[np.array(3)].item() == 4 and x[np.int64(3)].item() == 4


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (3, "3 for axis 0 of size 3"),
        (-4, "-4 for axis 0 of size 3"),
        ((0, 2), "axis 1"),
        ((0, 0, 0), "3 indices"),
        ((..., ...), "`...`"),
        (slice(None, None, 0), "step"),
        (1.0, "float"),
        ("a", "str"),
        (slice(1.5, None), "slice"),
        ([0, 3], "3 for axis 0"),
        ([0.5], "float64"),
        (True, "a single bool"),
        ([True, False], "a mask of shape (2,)"),
        (np.ones((3, 3), bool), "a mask of shape (3, 3)"),
        ((slice(None), np.ones(3, bool)), "a mask of shape (3,)"),
        ((slice(None), True), "a single bool"),
        ({}, "dict"),
        ([[0], [1, 2]], "ragged"),
        (slice(True, None), "slice"),
    ],
)
def test_errors_name_what_was_given(index: Any, words: str) -> None:
    x = pa.zeros((3, 2))
    with pytest.raises(IndexingError, match="given") as error:
        x[index]
    assert words in str(error.value)
    with pytest.raises(IndexingError):
        x[index] = 0.0
    assert x[2, 1].item() == 0.0


def test_float_indices_are_refused() -> None:
    with pytest.raises(IndexingError):
        pa.ones(3)[pa.asarray([1.0])]


ROW, COLUMN = np.array([0, 1, 1]), np.array([[2], [0]])
X = np.arange(120.0, dtype=np.float32).reshape(2, 3, 4, 5)
SEVERAL: list[Any] = [
    (ROW, COLUMN), (ROW, slice(None), COLUMN), (slice(None), ROW, COLUMN), (slice(None), ROW, slice(None), COLUMN),
    (ROW, COLUMN, ROW, COLUMN), (Ellipsis, ROW, COLUMN), (None, ROW, COLUMN), (slice(None), None, ROW, COLUMN), (ROW, COLUMN, None, 1),
    (slice(None, None, -1), ROW, slice(0, 3, 2), COLUMN), (X % 3 == 0,), (slice(None), X[0, :, :, 0] > 30),
    (np.array([True, False]),), (slice(None), np.array([True, False, True]), [0, 1]),
    (0, X[1, :, :, 1] > 80), (Ellipsis, X[0, 0] > 10), ([True, False],), (X > 1e9,),
    (np.zeros(2, bool), ROW[:0]), ([[True, False, True], [False, False, False]],),
]  # fmt: skip


@pytest.mark.parametrize("index", SEVERAL, ids=range(len(SEVERAL)))
def test_several_arrays_and_masks_as_numpy(index: Any) -> None:
    mine = tuple([pa.asarray(i) if isinstance(i, np.ndarray) else i for i in index])
    x = pa.asarray(X)
    for same in (index, mine):
        assert x[same].shape == X[index].shape
        np.testing.assert_array_equal(x[same].numpy(), X[index])
    for new in (7.0, -np.ones(X[index].shape, np.float32)):
        y, expected = pa.asarray(X), X.copy()
        y[mine] = pa.asarray(new) if isinstance(new, np.ndarray) else new
        expected[index] = new
        np.testing.assert_array_equal(y.numpy(), expected)


def test_masks() -> None:
    x = pa.asarray([1.0, 2.0, 3.0]).requires_grad_()
    (x[x > 1.5] ** 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 4, 6]
    one, yes, no = pa.asarray(3.0), pa.asarray(True), pa.asarray(False)
    assert one[yes].tolist() == [3] and one[no].shape == (0,)
    one[yes] = 4.0
    one[no] = 5.0
    assert one.item() == 4
    with pytest.raises(JitError, match="size="):
        jitted = pa.jit(lambda x: x[x > 1.5].sum())
        for _ in range(3):
            jitted(pa.asarray([1.0, 2.0]))
    with pytest.raises(JitError, match="size="):
        pa.vmap(lambda x: x[x > 1.5].sum())(pa.ones((2, 2)))

    def zeroed(x: Any) -> Any:
        x = x * 1.0
        x[x > 1.5] = 0.0
        return x

    f = pa.jit(zeroed)
    assert [f(pa.asarray([1.0, 2.0])).tolist() for _ in range(4)] == [[1, 0]] * 4

    def kept(x: Any) -> Any:
        return x[pa.nonzero(x > 1.5, size=3)]

    for g in (kept, pa.jit(kept)):
        for _ in range(4):
            found = g(pa.asarray([1.0, 2.0, 4.0])).numpy()
            np.testing.assert_array_equal(found, [2, 4, np.nan])


def test_dtypes_of_writes() -> None:
    i, f = pa.asarray([1, 2, 3]), pa.zeros(3)
    i[0] = True
    f[0], f[1] = 1, pa.asarray(2)
    f[2] = [3]
    assert i.tolist() == [1, 2, 3] and f.tolist() == [1, 2, 3]
    double = pa.zeros(2, dtype=pa.float64)
    double[:] = [0.1, 0.2]
    assert double.tolist() == [0.1, 0.2]
    for x, new in (
        (i, 1.5),
        (i, pa.ones(())),
        (f, pa.ones((), dtype=pa.float64)),
        (i, 1j),
        (i, [1.5]),
    ):
        with pytest.raises(DtypeError):
            x[0] = new
    with pytest.raises(ArgumentError):
        pa.zeros(2, dtype=pa.int8)
        small = pa.zeros(2, dtype=pa.int8)
        small[0] = 300
    with pytest.raises(ShapeError):
        f[0:2] = pa.ones(3)
    f[0:2] = pa.ones((1, 1, 2))
    assert f.tolist() == [1, 1, 3]


def test_leaves_are_protected() -> None:
    w = pa.ones(3).requires_grad_()
    with pytest.raises(GradientError, match="no_grad"):
        w[0] = 2.0
    with pytest.raises(GradientError):
        w.zero_()
    with pa.no_grad():
        w[0] = 2.0
        w[1:] += 1
    assert w.tolist() == [2, 2, 2] and w.requires_grad and w.is_leaf
    (w * w).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [4, 4, 4]
    v = w * 1.0
    v[0] = w[1] * 3.0
    v.sum().backward()


def test_every_name_of_a_handle_sees_a_write() -> None:
    a = pa.zeros(3)
    b = a

    def change(t: Any) -> None:
        t[0] = 1.0
        t[1:3] += 2.0

    change(a)
    assert b.tolist() == [1, 2, 2]


# Writes that would be lost.


class Holder:
    def __init__(self) -> None:
        self.x = pa.zeros((2, 2))

    def get(self) -> Any:
        return self.x


HELD = pa.zeros((2, 2))


def test_named_tensors_never_raise_nor_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            x, items, holder, table = (
                pa.zeros((2, 2)),
                [pa.zeros((2, 2))],
                Holder(),
                {"k": pa.zeros((2, 2))},
            )
            x[0] = 1.0
            x[0, 1] += 1.0
            x[0:1] += 1.0
            x[:, 1] *= 2.0
            x[[0]] += 1.0
            items[0][0] = 1.0
            holder.x[0] = 1.0
            holder.get()[0] = 1.0
            table["k"][0] += 1.0
            HELD[0] = 1.0
            HELD[0:1] += 1.0
            for t in (x, items[0]):
                t[0] = 2.0
            for t in [pa.zeros(2)]:
                t[0] = 2.0
            (lambda t: operator.setitem(t, 0, 1.0))(pa.zeros(2))
            operator.setitem(x, 0, 1.0)
            x.__setitem__(0, 1.0)
            pa.Tensor.__setitem__(x, 0, 1.0)
            list(map(operator.setitem, items, [0], [1.0]))
            assert (lambda t: (operator.setitem(t, 0, 3.0), t)[1])(x)[0, 0].item() == 3.0
            holder.x.zero_().add_(1.0).mul_(2.0)
            assert holder.x.tolist() == [[2, 2], [2, 2]]
            assert pa.zeros(2).add_(1.0).tolist() == [1, 1]
            assert (x + 1).fill_(2.0)[0, 0].item() == 2.0
            assert x.clone().zero_()[0, 0].item() == 0.0
            y = (x + 1)[0]
            y[0] = 5.0
            y += 1
            w = (y := x * 2)[0:1]
            del y
            w += 1

        def generate() -> Any:
            t = pa.zeros(2)
            t[0] = yield t
            yield t

        steps = generate()
        next(steps)
        assert steps.send(4.0).tolist() == [4, 0]
        exec(  # noqa: S102  (as a REPL would run it)
            "t = make(2)\nt[0] = 1.0\nt[0:1] += 1.0\nassert t.tolist() == [2, 0]",
            {"make": pa.zeros},
        )


def test_lost_writes_raise() -> None:
    x = pa.zeros((3, 3))
    with pytest.raises(ArgumentError, match=r"x\[i, j\] = v"):
        x[0][1] = 1.0
    with pytest.raises(ArgumentError):
        x[0][1] += 1.0
    with pytest.raises(ArgumentError):
        (x + 1)[0] = 1.0
    with pytest.raises(ArgumentError):
        x.view(-1)[0] = 1.0
    with pytest.raises(ArgumentError):
        x.reshape(9)[0:2] = 1.0
    with pytest.raises(ArgumentError):
        x.T[0] = 1.0
    for change in (
        lambda: x[0].zero_(),
        lambda: x.T.zero_(),
        lambda: x.reshape(-1).add_(1),
        lambda: x[0:2].mul_(2),
        lambda: x.flip(0).fill_(1),
        lambda: x[1].copy_(x[0]),
        lambda: x[0].clamp_(min=0),
    ):
        with pytest.raises(ArgumentError, match="expected"):
            change()
    assert not x.any().item()
    with pytest.raises(AttributeError, match="no_grad"):
        _ = x.data
    with pytest.raises(ArgumentError, match="x\\[...\\] = "):
        pa.add(x, x, out=x)


def test_parts_that_are_changed_warn_once() -> None:
    x = pa.zeros((3, 3))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            y = x[0]
            y += 1
        for row in x:
            row[0] = 1
        for row in x:
            row.add_(1)
    assert len(seen) == 3 and all(w.filename == __file__ for w in seen)
    assert not x.any().item()
