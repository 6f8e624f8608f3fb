"""Random numbers from a generator: counter-based and keyed, so the same seed gives the same numbers
on any backend, dynamic or jitted.

A generator holds one tensor, uint32[4]: two words of key, the number of draws made, and 0. Each
draw is a function of that state; then the state is advanced by assignment, which is how a jitted
function finds it.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np

from proa.array import asarray, take
from proa.compile.find import default_device
from proa.compile.find import device as as_device
from proa.dtypes import int64, uint32
from proa.errors import ArgumentError, DtypeError, message
from proa.ops import composite as cp
from proa.ops.arithmetic import add, eq, mul
from proa.ops.creation import iota
from proa.ops.expand import composite
from proa.ops.operators import astype
from proa.ops.primitive import apply, cast_to
from proa.record.live import CAPTURE, thread, use_state
from proa.shapes import as_int
from proa.tensor import Tensor, assign, copy_of, moved, rebind

__all__ = [
    "Generator", "bernoulli", "categorical", "default_generator", "get_state", "manual_seed",
    "next_state", "normal", "permutation", "rand", "randint", "randn", "set_state", "uniform",
]  # fmt: skip

_WORD: Final = 2**64 - 1


def splitmix64(seed: int) -> int:
    """64 well mixed bits of a seed (Steele, Lea, Flood 2014)."""
    z = (seed + 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def _advanced(state: Any) -> Any:
    place = apply(iota, (), shape=(4,), axis=0, dtype=uint32)
    return state + cast_to(eq(place, 2), uint32)


_advance = composite(
    "random_advance", _advanced, differentiable=False,
    doc="The state of a generator after one more draw.",
)  # fmt: skip


@final
class Generator:
    """A stream of random numbers.

    seed: an int, -2**63 <= seed < 2**64. The stream repeats after 2**32 draws; one draw makes a
    whole tensor. The state is kept on the device where it was last asked for numbers.

    >>> import proa as pa
    >>> g = pa.Generator(7)
    >>> before = g.get_state()
    >>> a = pa.random.uniform((3,), generator=g)
    >>> g.set_state(before)
    >>> bool((pa.random.uniform((3,), generator=g) == a).all())
    True
    """

    __slots__ = ("state", "home")

    def __init__(self, seed: int = 0, device: Any = None) -> None:
        self.home = as_device(device) if device is not None else _here()
        self.state = asarray(_words(seed), device=self.home)

    def manual_seed(self, seed: int) -> Generator:
        """Begins the stream of a seed anew."""
        rebind(self.state, asarray(_words(seed), device=self.home).value)
        return self

    def get_state(self) -> Tensor:
        """The state, uint32[4]; to be kept and given to `set_state`."""
        return copy_of(self.state)

    def set_state(self, state: Any) -> None:
        """Goes on from a state that `get_state` gave."""
        given = asarray(state)
        if given.dtype is not uint32 or given.shape != (4,):
            raise ArgumentError(
                message("set_state", f"{given.value.spec}", "uint32[4]", "get_state()")
            )
        assign(self.state, moved(given, self.home), "set_state")

    def draw(self, function: Any, *args: Any, device: Any = None) -> Any:
        """`function(state, *args)` on a device; then the state is advanced."""
        home = as_device(device) if device is not None else _here()
        if home != self.home:
            self._move(home)
        found = function(self.state, *args)
        assign(self.state, apply(_advance, (self.state,)), "Generator")
        return found

    def _move(self, home: Any) -> None:
        """Takes the state to another device: before what is traced here (`vmap`, `checkpoint`),
        unless that has drawn already."""
        state: Any = thread.state
        outside = state
        while outside.mode & CAPTURE and outside.capture.pure:
            outside = outside.outer
        drawn = outside is not state and self.state.value.is_pending
        with use_state(state if drawn else outside):
            rebind(self.state, moved(self.state, home).value)
        self.home = home

    def next_state(self, device: Any = None) -> Tensor:
        """The state for one draw, for functions that take it; the generator is advanced."""
        return self.draw(copy_of, device=device)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"Generator({self.state!r})"


def _here() -> Any:
    return thread.state.device or default_device()


def _words(seed: Any) -> Any:
    number = as_int("manual_seed", "seed", seed)
    if not -(2**63) <= number < 2**64:
        raise ArgumentError(message("manual_seed", f"seed {number}", "-2**63 <= seed < 2**64"))
    mixed = splitmix64(number & _WORD)
    return np.array([mixed >> 32, mixed & 0xFFFFFFFF, 0, 0], np.uint32)


_DEFAULT: Final[list[Generator]] = []


def default_generator() -> Generator:
    """The generator of all draws that name none. Made when first used, with seed 0.

    >>> import proa as pa
    >>> pa.random.default_generator() is pa.random.default_generator()
    True
    """
    if not _DEFAULT:
        _DEFAULT.append(Generator(0))
    return _DEFAULT[0]


def manual_seed(seed: int) -> Generator:
    """Begins the default generator's stream anew; returns it.

    >>> import proa as pa
    >>> _ = pa.manual_seed(3)
    >>> a = pa.random.rand(2)
    >>> _ = pa.manual_seed(3)
    >>> bool((a == pa.random.rand(2)).all())
    True
    """
    return default_generator().manual_seed(seed)


def get_state() -> Tensor:
    """The state of the default generator.

    >>> import proa as pa
    >>> pa.random.get_state().shape
    (4,)
    """
    return default_generator().get_state()


def set_state(state: Any) -> None:
    """The default generator goes on from a state that `get_state` gave.

    >>> import proa as pa
    >>> pa.random.set_state(pa.random.get_state())
    """
    default_generator().set_state(state)


def next_state(generator: Generator | None = None, device: Any = None) -> Tensor:
    """The state for one draw of a generator (the default one if None), which is advanced.

    >>> import proa as pa
    >>> pa.random.next_state().dtype
    proa.uint32
    """
    return _generator(generator).next_state(device)


def _generator(given: Any) -> Generator:
    if given is None:
        return default_generator()
    if type(given) is not Generator:
        kind = f"a generator of type {type(given).__name__}"
        raise DtypeError(message("random", kind, "a Generator", "pa.Generator(seed)"))
    return given


def _draw(generator: Any, function: Any, *args: Any, device: Any = None) -> Any:
    return _generator(generator).draw(function, *args, device=device)


def uniform(
    shape: Any = (), low: Any = 0.0, high: Any = 1.0, *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """low + (high - low) u, for u in [0, 1) with 24 binary digits (53 in float64).

    low, high: numbers or tensors of 0 axes.

    >>> import proa as pa
    >>> x = pa.random.uniform((1000,), -1.0, 1.0)
    >>> bool((x >= -1).all()), bool((x < 1).all())
    (True, True)
    """
    return _draw(generator, cp.uniform, shape, dtype, low, high, device=device)  # type: ignore[no-any-return]


def normal(
    shape: Any = (), mean: Any = 0.0, std: Any = 1.0, *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """mean + std z, for z standard normal.

    >>> import proa as pa
    >>> pa.random.normal((2, 3), 5.0, 0.1).shape
    (2, 3)
    """
    z = _draw(generator, cp.normal, shape, dtype, device=device)
    return add(mul(z, std), mean)  # type: ignore[no-any-return]


def rand(
    *shape: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """Uniform numbers in [0, 1): `rand(2, 3)` or `rand((2, 3))`.

    >>> import proa as pa
    >>> pa.random.rand(2, 3).shape
    (2, 3)
    """
    return uniform(_sizes(shape), generator=generator, dtype=dtype, device=device)


def randn(
    *shape: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """Standard normal numbers: `randn(2, 3)` or `randn((2, 3))`.

    >>> import proa as pa
    >>> pa.random.randn(2, 3).dtype
    proa.float32
    """
    return _draw(generator, cp.normal, _sizes(shape), dtype, device=device)  # type: ignore[no-any-return]


def _sizes(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def randint(
    low: Any, high: Any = None, shape: Any = (), *, generator: Generator | None = None,
    dtype: Any = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """Integers low <= i < high, int64 unless a dtype is given (0 <= i < low if high is None).

    low, high: ints, or int64 tensors of 0 axes.

    >>> import proa as pa
    >>> pa.random.randint(5, 6, (2,)).tolist()
    [5, 5]
    """
    low, high = (0, low) if high is None else (low, high)
    of = int64 if dtype is None else dtype
    return _draw(generator, cp.randint, shape, low, high, of, device=device)  # type: ignore[no-any-return]


def permutation(
    x: Any, *, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """0, 1, ..., x - 1 in a random order, int64; of a tensor, its rows in a random order.

    >>> import proa as pa
    >>> sorted(pa.random.permutation(4).tolist())
    [0, 1, 2, 3]
    """
    if type(x) is Tensor and x.ndim:
        place = _draw(generator, cp.permutation, x.shape[0], device=device or x.device)
        found = take(x, place, 0)
    else:
        found = _draw(generator, cp.permutation, as_int("permutation", "x", x), device=device)
    return found if dtype is None else astype(found, dtype)  # type: ignore[no-any-return]


def bernoulli(
    p: Any, shape: Any = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None,
) -> Tensor:  # fmt: skip
    """True with probability p, bool unless a dtype is given.

    p: a number, 0 <= p <= 1, with `shape`; or a float tensor of the shape of the result.

    >>> import proa as pa
    >>> pa.random.bernoulli(1.0, (2,)).tolist()
    [True, True]
    """
    found = _draw(generator, cp.bernoulli, p, shape, device=_device_of(p, device))
    return found if dtype is None else astype(found, dtype)  # type: ignore[no-any-return]


def categorical(
    logits: Any, axis: int = -1, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None,
) -> Tensor:  # fmt: skip
    """An index along `axis`, int64, with probability softmax(logits).

    >>> import proa as pa
    >>> pa.random.categorical(pa.asarray([-float("inf"), 0.0])).item()
    1
    """
    found = _draw(generator, cp.categorical, logits, axis, device=_device_of(logits, device))
    return found if dtype is None else astype(found, dtype)  # type: ignore[no-any-return]


def _device_of(x: Any, device: Any) -> Any:
    """Where a draw takes place that has a tensor among its arguments."""
    return x.device if device is None and type(x) is Tensor else device
