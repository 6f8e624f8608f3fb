"""`cpu`: how far its functions are from the truth, in units in the last place, and exact rules.

The slow lane takes every float32 there is. `python -m tests.test_cpu_accuracy [name ...]` measures
the same and writes the table of docs/numerics.md.
"""

from __future__ import annotations

import ctypes
import sys
import time
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proa import dtypes
from proa.backends.cpu import claims
from proa.backends.cpu import target as targets
from proa.backends.cpu.objects import generator
from proa.backends.cpu.vector import Body, Vector
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Input, Role
from proa.graph.spec import spec
from proa.ops.primitive import REGISTRY, apply
from tests.helpers_cpu import printed_for

CPU = backend("cpu")
DEVICE = CPU.devices()[0]
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "numerics.md"
ONE = ("exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos", "sqrt", "rsqrt", "asin", "acos",
       "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "tan",
       "log2", "log10")  # fmt: skip
TWO = ("pow", "atan2")
NAMES = (*ONE, *TWO)
BOUND = 2.0  # units
HAS_LONG = np.finfo(np.longdouble).nmant >= 63
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@cache
def prepared(name: str, ins: tuple[Any, ...], params: tuple[Any, ...]) -> Any:
    """One operation, compiled for operands of these specs."""
    builder = Builder([Input(of, Role.DATA) for of in ins])
    with use_sink(builder):
        made = apply(REGISTRY[name], builder.input_values(), **dict(params))
    return CPU.compile(lower(builder.graph([made]), CPU, DEVICE))


def on_cpu(name: str, *arrays: Any, **params: Any) -> Any:
    ins = tuple([spec(a.shape, dtypes.dtype(a.dtype)) for a in arrays])
    run = prepared(name, ins, tuple(params.items()))
    return run([CPU.put(a, of, DEVICE) for a, of in zip(arrays, ins, strict=True)])[0].host()


def bits_of(dtype: Any) -> Any:
    return np.dtype(f"u{np.dtype(dtype).itemsize}")


# What is true, and how far a result is from it.


def truth(name: str, *arrays: Any) -> Any:
    """In the next wider float: float64 of float32, the long double of float64."""
    with np.errstate(all="ignore"):
        arrays = [a.astype(np.float64 if a.dtype == F32 else np.longdouble) for a in arrays]
        if name == "rsqrt":
            return 1.0 / np.sqrt(arrays[0])
        if name == "erf":
            from scipy.special import erf

            return erf(arrays[0])
        return {"pow": np.power}.get(name, getattr(np, name, None))(*arrays)


def exactly(name: str, *arrays: Any) -> Any:
    """By mpmath in 200 bits, as numbers that are wide enough, one by one."""
    mp = pytest.importorskip("mpmath").mp
    functions = {"rsqrt": lambda v: 1 / mp.sqrt(v), "pow": mp.power, "log2": lambda v: mp.log(v, 2)}
    function = functions.get(name) or getattr(mp, name)
    found = []
    with mp.workprec(200):
        for row in zip(*(a.tolist() for a in arrays), strict=True):
            part, exponent = mp.frexp(function(*map(mp.mpf, row)))
            high = np.longdouble(float(part))
            found.append(np.ldexp(high + np.longdouble(float(part - float(part))), exponent))
    return np.array(found, np.longdouble)


def units(found: Any, exact: Any) -> Any:
    """|found - exact| in units in the last place of what is exact; infinity is the number after the
    largest. NaN must meet NaN, and signs must be equal: those of zeros too."""
    info = np.finfo(found.dtype)
    most = exact.dtype.type(2.0) ** (info.maxexp - 1)
    nan = np.isnan(exact)
    right = (np.isnan(found) == nan) & ((np.signbit(found) == np.signbit(exact)) | nan)
    with np.errstate(invalid="ignore", over="ignore"):
        # Halves, so that infinity is a number of float64 too.
        a = np.clip(found.astype(exact.dtype) * 0.5, -most, most)
        b = np.clip(exact * 0.5, -most, most)
        _, exponent = np.frexp(np.where(nan, 1, b))
        exponent = np.maximum(exponent, info.minexp) - 1 - info.nmant
        apart = np.ldexp(np.where(nan, 0, np.abs(a - b)), -exponent)
    return np.where(right, apart, np.inf)


Worst = tuple[float, tuple[Any, ...]]
ROUNDED: Worst = (0.5, ())  # nothing is worse than rounded right


def suspects(found: Any, exact: Any, most: float) -> Any:
    """Places where a result may be off by more than `most` units; all others are seen at once."""
    with np.errstate(all="ignore"):
        right = (found == exact.astype(found.dtype)) & (np.signbit(found) == np.signbit(exact))
        unit = np.abs(exact) * (most * np.finfo(found.dtype).eps / 2)  # at most that long
        right |= (np.abs(found - exact) <= unit) & (exact != 0)
    return np.nonzero(~right)[0]


def worst(name: str, arrays: Any, exact: Any, before: Worst = ROUNDED) -> Worst:
    """The worst input of all, and of those before."""
    found = on_cpu(name, *arrays)
    left = suspects(found, exact, before[0])
    if not left.size:
        return before
    away = units(found[left], exact[left])
    at = int(np.argmax(away))
    return max(before, (float(away[at]), tuple(a[left[at]] for a in arrays)), key=lambda w: w[0])


def shown(where: tuple[Any, ...]) -> str:
    return ", ".join(float(v).hex() for v in where) or "rounded right"


# Where.


def points(name: str, dtype: Any, n: int, seed: int = 0) -> tuple[Any, ...]:
    """Of all binades, of the usual range, around 1, small; for `pow` so that results are finite."""
    rng = np.random.default_rng([seed, len(name)])
    kind, quarter = np.dtype(dtype), n // 4
    spread = 1.0 + rng.uniform(-1, 1, quarter) * np.exp(rng.uniform(-35, 0, quarter))
    x = np.concatenate([
        rng.integers(0, 2 ** (8 * kind.itemsize), quarter, bits_of(kind)).view(kind),
        rng.uniform(-800, 800, quarter).astype(kind), rng.uniform(-4, 4, quarter).astype(kind),
        spread.astype(kind), edges(kind),
    ])  # fmt: skip
    if name == "atan2":
        with np.errstate(all="ignore"):
            near = x * rng.normal(size=x.size).astype(kind)
        return x, np.where(rng.random(x.size) < 0.5, near, rng.permutation(x))
    if name != "pow":
        return (x,)
    with np.errstate(all="ignore"):
        most = 105 if kind == F32 else 746
        y = rng.uniform(-most, most, x.size) / np.log(np.abs(x).astype(np.float64))
        y[::3] = rng.uniform(-9, 9, y[::3].size)
        y[::4] = np.round(y[::4])
        return x, np.where(np.isnan(y), 2.0, y).astype(kind)


def edges(dtype: Any) -> Any:
    """Zeros, infinities, NaN, the smallest and largest numbers, where functions branch or end."""
    info = np.finfo(dtype)
    ends = [0.0, info.smallest_subnormal, info.smallest_normal, info.max, np.inf, np.nan, 1.0, 2.0]
    ends += [0.5, 0.55, 0.625, 0.8984375, 0.9277343, 6.0, 10.0, 2.0**-40, 2.0**-60, 71476.0]
    ends += [2.0**27, 2.0**31, 2.0**62, 88.7228, 88.8, 103.97, 104.0, 709.78, 710, 745.13, 746.0]
    ends += [np.pi * k / 2 for k in range(1, 9)] + [0.70710678, 1.41421356, 17.3, 36.7, 40.0]
    with np.errstate(all="ignore"):
        near = np.array(ends, np.float64).astype(dtype)
        sides = [np.nextafter(near, dtype.type(v)) for v in (0, np.inf)]
    near = np.concatenate([near, *sides])
    return np.concatenate([near, -near])


# The worst that longer searches found.
KNOWN = {
    "expm1": "0x1.6b54645a4de20p-2", "tanh": "-0x1.4279382fae99bp-1", "cos": "0x1.2cc32f487d1dep+1",
    "erf": "-0x1.e17d031ee57c4p-1", "sin": "-0x1.5862f243f806fp+9", "log": "0x1.69f12dfb7c55dp-1",
    "log1p": "-0x1.2d407f9d1b8eep-2", "tan": "0x1.0dc9f9d639fa4p+9", "atan": "0x1.75aabf667dc6dp-1",
    "sinh": "0x1.d4a7d777c84f0p+5", "cosh": "0x1.d4a7d777c84f0p+5", "asin": "-0x1.02884f38f9060p-1",
    "acos": "0x1.3155d721972d0p-1", "asinh": "0x1.2cb58de4214bap+0", "log2": "0x1.67add15e8639cp+0",
    "acosh": "0x1.89f17717c2b60p+0", "atanh": "0x1.65245f792ab18p-1", "log10": "0x1.52b8064274da4p+0",
}  # fmt: skip


def hard(name: str, n: int) -> tuple[Any, ...]:
    """float64: close to multiples of pi / 2 for circular functions, where logarithms vanish, where
    results become denormal or infinite, and edges."""
    rng = np.random.default_rng(len(name))
    near = np.exp(rng.uniform(-36, -1, n // 4)) * rng.choice([-1, 1], n // 4)
    x = [edges(F64), near, 1.0 + near, rng.uniform(700, 750, n // 8) * rng.choice([-1, 1], n // 8)]
    if name in ("sin", "cos", "tan"):
        mp = pytest.importorskip("mpmath").mp
        with mp.workprec(1300):
            turns = [int(2 ** rng.uniform(0, 60)) for _ in range(n // 2)]
            x.append(np.array([float(k * mp.pi / 2) for k in turns]))
            x.append(np.array([float(int(k) * 2 ** int(e) * mp.pi / 2) for k, e in zip(
                rng.integers(1, 2**52, n // 4), rng.integers(0, 960, n // 4), strict=True)]))  # fmt: skip
        x.append(np.array([6381956970095103.0 * 2.0**797]))  # the closest of all
    else:
        x.append(rng.integers(0, 2**63, n // 2, np.uint64).view(np.float64))
    if name in KNOWN:
        x.append(np.array([float.fromhex(KNOWN[name])]))
    found = np.concatenate(x)
    if name in ("log", "log2", "log10", "sqrt", "rsqrt", "pow"):
        found = np.abs(found)
    if name == "log1p":
        found = np.maximum(found, -0.999999999999)
    found = found[np.isfinite(found) & (found != 0)]
    if name in ("exp", "expm1", "sinh", "cosh"):
        found = found[np.abs(found) < 800]
    if name in ("asin", "acos", "atanh"):
        found = found[np.abs(found) < 1]
    if name == "acosh":
        found = np.abs(found)[np.abs(found) > 1]
    if name == "atan2":
        return found, rng.permutation(found)
    if name != "pow":
        return (found,)
    found = found[found != 1.0]
    with np.errstate(over="ignore"):
        y = rng.uniform(-745, 709.7, found.size) / np.log(found)
    return found, np.where(np.isfinite(y), y, 2.0)


# The fast lane.


@pytest.mark.parametrize("name", NAMES)
def test_float32(name: str) -> None:
    x = points(name, F32, 100_000)
    found, where = worst(name, x, truth(name, *x))
    assert found <= BOUND, (found, shown(where))


@pytest.mark.parametrize("name", NAMES)
def test_float64(name: str) -> None:
    if name == "erf":
        found, where = worst(name, *by_mpmath(name, 8000))
    elif HAS_LONG:
        x = points(name, F64, 100_000)
        found, where = worst(name, x, truth(name, *x))
    else:
        pytest.skip("no long double")
    assert found <= BOUND, (found, shown(where))


def by_mpmath(name: str, n: int) -> tuple[Any, Any]:
    """Finite points, and what is exact."""
    (x,) = points(name, F64, n)
    x = x[np.isfinite(x) & (x != 0)]
    return (x,), exactly(name, x)


@pytest.mark.parametrize("name", NAMES)
def test_hard_points(name: str) -> None:
    x = hard(name, 1000)
    found, where = worst(name, x, exactly(name, *x))
    assert found <= BOUND, (found, shown(where))


def same(a: Any, b: Any) -> bool:
    """Equal bits; only what a NaN carries is free."""
    if a.dtype.kind in "biu":
        return bool(np.array_equal(a, b))
    nan = np.isnan(a.astype(np.float64))
    equal = a.view(bits_of(a.dtype)) == b.view(bits_of(a.dtype))
    return bool(np.all(np.where(nan, np.isnan(b.astype(np.float64)), equal)))


FLOATS = ("float16", "bfloat16", "float32", "float64")
INTS = [d.name for d in dtypes.ALL if d.kind == "int"]


def special() -> tuple[Any, Any]:
    s = [0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 7.0, np.inf, np.nan, 1e-40, 1e38, 5e-324, 2.0**53 - 1, 1e300]
    a, b = np.meshgrid(np.array([*s, *(-v for v in s)]), np.array([*s, *(-v for v in s)]))
    return a.ravel(), b.ravel()


@pytest.mark.parametrize("name", FLOATS)
def test_remainder_is_exact(name: str) -> None:
    kind = dtypes.dtype(name).numpy
    rng = np.random.default_rng(0)
    a, b = special()
    with np.errstate(all="ignore"):
        a = np.concatenate([a, rng.uniform(-100, 100, 5000), rng.integers(-50, 50, 5000)]).astype(
            kind
        )
        b = np.concatenate([b, rng.uniform(-3, 3, 5000), rng.integers(-9, 9, 5000)]).astype(kind)
        wild = rng.integers(0, 2 ** (8 * kind.itemsize), (2, 20_000), bits_of(kind)).view(kind)
        a, b = np.concatenate([a, wild[0]]), np.concatenate([b, wild[1]])
        assert same(on_cpu("rem", a, b), REGISTRY["rem"].meaning(a, b))


@pytest.mark.parametrize("name", FLOATS)
def test_power_at_the_edges(name: str) -> None:
    kind = dtypes.dtype(name).numpy
    with np.errstate(all="ignore"):
        a, b = (v.astype(kind) for v in special())
        exact = np.power(a.astype(np.float64), b.astype(np.float64)).astype(kind)
        found, exact = on_cpu("pow", a, b).astype(np.float64), exact.astype(np.float64)
    rare = ~np.isfinite(exact) | (exact == 0) | (np.abs(exact) == 1)
    assert same(found[rare], exact[rare])
    np.testing.assert_allclose(found[~rare], exact[~rare], rtol=1e-2)


@pytest.mark.parametrize("op", ["div", "rem", "pow"])
@pytest.mark.parametrize("name", INTS)
def test_integers(name: str, op: str) -> None:
    kind = dtypes.dtype(name).numpy
    info, rng = np.iinfo(kind), np.random.default_rng(0)
    if kind.itemsize == 1:  # all pairs
        a, b = (
            v.ravel() for v in np.meshgrid(*[np.arange(info.min, info.max + 1, dtype=kind)] * 2)
        )
    else:
        few = np.array([info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3], kind)
        few = np.concatenate([few, np.zeros_like(few) - few])
        a, b = (v.ravel() for v in np.meshgrid(few, few))
        wild = rng.integers(info.min, info.max, (2, 5000), kind, endpoint=True)
        wild[1] >>= rng.integers(0, 8 * kind.itemsize - 1, 5000).astype(kind)
        a, b = np.concatenate([a, *wild]), np.concatenate([b, wild[1], wild[0]])
    with np.errstate(all="ignore"):
        assert same(on_cpu(op, a, b), REGISTRY[op].meaning(a, b))


def test_casts_to_float16_round_once() -> None:
    """Halves of units of float16, a little more and a little less; the ends of its range."""
    x = np.concatenate([np.arange(4096) * 2.0**-25, 1.0 + np.arange(4096) * 2.0**-12,
                        [65519.99999999999, 65520.0, 65504.0, 1e300, np.inf, np.nan]])  # fmt: skip
    x = np.concatenate([x * s for s in (1.0, 1 + 2e-16, 1 - 2e-16, 1 + 1e-12, 1 - 1e-12)])
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        assert same(on_cpu("cast", x, dtype=dtypes.float16, weak=False), x.astype(np.float16))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_logarithms_of_powers_are_whole(dtype: Any) -> None:
    twos, tens = np.arange(-125, 127), np.arange(10 if dtype == F32 else 23)
    assert np.array_equal(on_cpu("log2", (2.0**twos).astype(dtype)), twos)
    assert np.array_equal(on_cpu("log10", (10.0**tens).astype(dtype)), tens)


# The same bits everywhere.

DIGEST = "from tests.test_cpu_accuracy import digest; print(digest())"


def digest() -> str:
    """Of every function on a million inputs, and of casts to and from float16."""
    found = sha256()
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    (floats,) = points("", F32, 1_000_000)
    for x, dtype in ((halves, dtypes.float32), (floats, dtypes.float16)):
        y = on_cpu("cast", x, dtype=dtype, weak=False)
        found.update(np.where(np.isnan(y), y.dtype.type(0), y).tobytes())
    for kind in (F32, F64):
        for name in (*ONE, *TWO, "rem"):
            x = points("pow" if name in ("pow", "rem") else name, kind, 1_000_000)
            y = on_cpu(name, *x)
            found.update(np.where(np.isnan(y), kind.type(0), y).tobytes())
    return found.hexdigest()


def test_the_same_bits_on_narrower_processors(tmp_path: Path) -> None:
    here = targets.target()
    if not here.is_x86 or not here.has_fma or here.vector_bytes < 32:
        pytest.skip("for x86-64 with AVX2")
    mine = digest()
    for level in ("x86-64-v3", "x86-64-v2"):
        found, errors = printed_for(level, DIGEST, tmp_path)
        assert found == mine, (level, errors)


# What is made from positions.


def placed(rule: Any, kind: Any, first: int, count: int, lanes: int = 8) -> Any:
    """What a rule makes of an index that runs from `first` on; compiled alone."""
    machine = targets.target()
    body = Body(lanes)
    body.label("loop")
    body.line("  %i = phi i64 [ 0, %entry ], [ %next, %loop ]")
    start = body.set(f"add i64 %i, {first}")
    wide = body.wide("i64")
    one = body.set(f"insertelement {wide} poison, i64 {start}, i32 0")
    all_ = body.set(
        f"shufflevector {wide} {one}, {wide} poison, {body.wide('i32')} zeroinitializer"
    )
    numbers = ", ".join(f"i64 {k}" for k in range(lanes))
    index = Vector(body, "i64", [body.set(f"add {wide} {all_}, <{numbers}>")])
    made = claims.narrowed(rule(index), kind)
    at = body.set(f"getelementptr {made.type}, ptr %out, i64 %i")
    body.line(f"  store {made.wide} {made.names[0]}, ptr {at}, align 1")
    body.line(f"  %next = add i64 %i, {lanes}")
    body.line("  %more = icmp slt i64 %next, %count")
    body.line("  br i1 %more, label %loop, label %done")
    text = [f'target triple = "{machine.triple}"', "define void @run(ptr %out, i64 %count) {",
            "entry:", "  br label %loop", *body.lines, "done:", "  ret void", "}",
            *body.declared.values()]  # fmt: skip
    llvm = targets.binding()
    code = generator(machine)
    linker = llvm.create_lljit_compiler(code)
    object_ = code.emit_object(llvm.parse_assembly("\n".join(text)))
    library = llvm.JITLibraryBuilder().add_object_img(object_).add_current_process()
    tracker = library.export_symbol("run").link(linker, "placed")
    out = np.zeros(count + lanes, kind.numpy)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(tracker["run"])(out.ctypes.data, count)
    return out[:count]


@pytest.mark.parametrize("name", [*INTS, *FLOATS])
def test_iota(name: str) -> None:
    kind = dtypes.dtype(name)
    builder = Builder([])
    with use_sink(builder):
        made = apply(REGISTRY["iota"], (), shape=(5,), axis=0, dtype=kind)
    (step,) = builder.graph([made]).steps
    for first in (0, 100, 2**24 - 9, 2**32 - 5, 2**33 + 2**9 + 1):
        if kind.kind == "int" and first + 77 > dtypes.iinfo(kind).max:
            continue
        found = placed(lambda i: claims.iota_rule(i, step.entry), kind, first, 77)
        with np.errstate(over="ignore"):
            assert same(found, np.arange(first, first + 77).astype(kind.numpy))


def test_random_bits() -> None:
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2**32, 4, np.uint32)
    keys = [int(w) - (int(w) >> 31 << 32) for w in state[:3]]

    def rule(index: Vector) -> Vector:
        words = [Vector(index.body, "i32", [index.body.constant(k, "i32")], False) for k in keys]
        return claims.random_rule(index, *words, entry=None)

    expected = REGISTRY["random_bits"].meaning(state, shape=(1001,))
    assert same(placed(rule, dtypes.uint32, 0, 1001), expected)
    assert same(placed(rule, dtypes.uint32, 13, 500), expected[13:513])


# The slow lane.


def every_float32(name: str) -> Worst:
    if name in TWO:
        rows = (points(name, F32, 1 << 16, seed) for seed in range(1600))
    else:
        chunk = 1 << 16  # stays in a cache
        whole = (np.arange(i, i + chunk, dtype=np.uint32) for i in range(0, 2**32, chunk))
        rows = ((bits.view(np.float32),) for bits in whole)
    found = ROUNDED
    for x in rows:
        found = worst(name, x, truth(name, *x), found)
    return found


def many_float64(name: str) -> Worst:
    """Ten million against the long double (erf: a hundred thousand against mpmath), ten thousand
    hard ones against mpmath."""
    x = hard(name, 10_000)
    found = worst(name, x, exactly(name, *x))
    if name == "erf":
        found = worst(name, *by_mpmath(name, 100_000), found)
    elif HAS_LONG:
        for seed in range(160):
            x = points(name, F64, 1 << 16, seed)
            found = worst(name, x, truth(name, *x), found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_float32(name: str) -> None:
    found, where = every_float32(name)
    assert found <= BOUND, (found, shown(where))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_float64(name: str) -> None:
    found, where = many_float64(name)
    assert found <= BOUND, (found, shown(where))


# The page.

HEAD = "| function | float32: worst | at | float64: worst | at |\n| --- | --- | --- | --- | --- |\n"


def write(names: list[str]) -> None:
    """Measures functions and puts their lines into the table of the page."""
    text = PAGE.read_text()
    before, table = text.split(HEAD)
    lines, _, after = table.partition("\n\n")
    rows = {line.split("`")[1]: line for line in lines.splitlines() if line.startswith("| `")}
    for name in names:
        start = time.perf_counter()
        cells = []
        for found, where in (every_float32(name), many_float64(name)):
            cells += [f"{found:.3f}", f"`{shown(where)}`"]
        rows[name] = f"| `{name}` | " + " | ".join(cells) + " |"
        print(rows[name], f"{time.perf_counter() - start:.0f} s", flush=True)
        kept = "\n".join(rows[n] for n in NAMES if n in rows)
        PAGE.write_text(f"{before}{HEAD}{kept}\n\n{after}")


if __name__ == "__main__":
    write(sys.argv[1:] or list(NAMES))
