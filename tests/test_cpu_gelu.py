"""`cpu`: how far gelu and its slope are from the truth, both forms; they are composites that it
claims whole.

The slow lane takes every float32 there is. `python -m tests.test_cpu_gelu [name ...]` measures
the same and writes the table of docs/numerics.md.
"""

from __future__ import annotations

import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import proa as pa
from proa.backends.cpu import target as targets
from proa.ops.composite import gelu
from tests.helpers_cpu import printed_for
from tests.test_cpu_accuracy import (
    F32,
    F64,
    PAGE,
    ROUNDED,
    Worst,
    bits_of,
    edges,
    on_cpu,
    same,
    shown,
    suspects,
    units,
)

FORMS = {
    "gelu": ("gelu", "none"), "gelu, tanh": ("gelu", "tanh"),
    "gelu's slope": ("gelu_slope", "none"), "gelu's slope, tanh": ("gelu_slope", "tanh"),
}  # fmt: skip
BOUND = 8.0  # units
NARROW = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
# Round its zero the slope of the tanh form is measured in units of 1: two numbers of about 1 / 2
# are subtracted there.
AROUND = {"gelu's slope, tanh": (-1.0, -0.5)}


def found_by(name: str, x: Any) -> Any:
    primitive, form = FORMS[name]
    return on_cpu(primitive, x, approximate=form)


def truth(name: str, x: Any) -> Any:
    """In float64, for float32; NaN where infinity meets 0 in the definition."""
    from scipy.special import erfc

    primitive, form = FORMS[name]
    with np.errstate(all="ignore"):
        x = x.astype(np.float64)
        if form == "none":
            below, bell = erfc(-x / np.sqrt(2)) / 2, np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
            slope = below + x * bell
        else:
            c = np.sqrt(8 / np.pi)
            u = c * (x + 0.044715 * x**3)
            below = 1 / (1 + np.exp(-u))
            slope = below * (1 + x * c * (1 + 3 * 0.044715 * x * x) / (1 + np.exp(u)))
        if primitive == "gelu":
            return x * below
        ends = np.where(np.isinf(x), np.nan, np.where(x > 0, 1.0, -0.0))
        return np.where(np.abs(x) > 30, ends, slope)


def exactly(name: str, x: Any) -> Any:
    """By mpmath in 220 bits, as long doubles; x is finite and not 0."""
    mp = pytest.importorskip("mpmath").mp
    primitive, form = FORMS[name]
    found = []
    with mp.workprec(220):
        c, third = mp.sqrt(8 / mp.pi), mp.mpf("0.044715")
        for v in map(mp.mpf, x.tolist()):
            if form == "none":
                below = mp.erfc(-v / mp.sqrt(2)) / 2
                slope = below + v * mp.exp(-v * v / 2) / mp.sqrt(2 * mp.pi)
            else:
                u = c * (v + third * v**3)
                below = 1 / (1 + mp.exp(-u))
                slope = below * (1 + v * c * (1 + 3 * third * v * v) / (1 + mp.exp(u)))
            part, exponent = mp.frexp(v * below if primitive == "gelu" else slope)
            high = np.longdouble(float(part))
            found.append(np.ldexp(high + np.longdouble(float(part - float(part))), exponent))
    return np.array(found, np.longdouble)


def worst(name: str, x: Any, exact: Any, before: Worst = ROUNDED) -> Worst:
    """The worst input of all, and of those before."""
    found = found_by(name, x)
    left = suspects(found, exact, before[0])
    if not left.size:
        return before
    found, exact, x = found[left], exact[left], x[left]
    away = units(found, exact)
    low, high = AROUND.get(name, (0.0, 0.0))
    near = (x > low) & (x < high)
    away[near] = np.abs(found[near] - exact[near]) / np.finfo(x.dtype).eps
    at = int(np.argmax(away))
    return max(before, (float(away[at]), (x[at],)), key=lambda w: w[0])


def points(kind: Any, n: int, seed: int = 0) -> Any:
    """Where the tail is, up to its last denormal; round the slope's zero; of all binades; edges."""
    rng = np.random.default_rng([seed, kind.itemsize])
    end = 14.8 if kind == F32 else 38.8
    x: list[Any] = [
        rng.uniform(-end, 1, n), rng.uniform(-1, 1, n), rng.uniform(-6, 0, n),
        rng.uniform(-end - 0.2, -end + 2, n // 4), rng.uniform(-22, -20, n // 4),
        rng.uniform(-0.7526, -0.7516, n // 4), rng.normal(size=n) * np.exp(rng.uniform(-90, 0, n)),
        [-38.8, -21.62, -14.8, -10.95, -0.7517915246935645, -0.7524614],
    ]  # fmt: skip
    wild = rng.integers(0, 2 ** (8 * kind.itemsize), n, bits_of(kind)).view(kind)
    return np.concatenate([np.concatenate(x).astype(kind), wild, edges(kind)])


def by_mpmath(name: str, n: int) -> tuple[Any, Any]:
    x = points(F64, n)
    x = x[np.isfinite(x) & (x != 0) & (np.abs(x) < 1000)]
    return x, exactly(name, x)


# The fast lane.


@pytest.mark.parametrize("name", FORMS)
def test_float32(name: str) -> None:
    x = points(F32, 50_000)
    found, where = worst(name, x, truth(name, x))
    assert found <= BOUND, (found, shown(where))


@pytest.mark.parametrize("name", FORMS)
def test_float64(name: str) -> None:
    found, where = worst(name, *by_mpmath(name, 500))
    assert found <= BOUND, (found, shown(where))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", [F32, F64], ids=str)
def test_edges(name: str, kind: Any) -> None:
    """Infinities, NaN, signed zeros, and beyond the tail."""
    x = np.array([-np.inf, np.inf, np.nan, -0.0, 0.0, -1e30, 1e30, -60.0, 60.0], kind)
    gelus = np.array([np.nan, np.inf, np.nan, -0.0, 0.0, -0.0, 1e30, -0.0, 60.0], kind)
    slopes = np.array([np.nan, np.nan, np.nan, 0.5, 0.5, -0.0, 1.0, -0.0, 1.0], kind)
    expected = gelus if FORMS[name][0] == "gelu" else slopes
    found = found_by(name, x)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    known = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", NARROW, ids=str)
def test_narrow_floats_are_rounded_once(name: str, kind: Any) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(kind)
    with np.errstate(all="ignore"):
        expected = found_by(name, x.astype(np.float32)).astype(kind)
    assert same(found_by(name, x).view(kind), expected)


@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize("kind", [F32, F64, *NARROW], ids=str)
def test_alone_and_in_programs(kind: Any, form: str) -> None:
    """A gradient reads the slope that is claimed; one by one, whole and under `jit` alike."""
    rng = np.random.default_rng(0)
    x, ct = rng.normal(0, 2, (2, 37, 53)).astype(kind)

    def step(x: Any, ct: Any) -> Any:
        y = gelu(x, form)
        y.backward(ct)
        return y, x.grad

    jitted = pa.jit(lambda x, ct: (gelu(x, form), pa.grad(lambda v: (gelu(v, form) * ct).sum())(x)))
    wide = [v.astype(np.float32) if kind in NARROW else v for v in (x, ct)]
    slope = on_cpu("gelu_slope", wide[0], approximate=form)
    expected = on_cpu("gelu", x, approximate=form), (wide[1] * slope).astype(kind)
    for turn in range(8):
        given = pa.asarray(x), pa.asarray(ct)
        given[0].requires_grad = turn % 2 == 0
        found = step(*given) if turn % 2 == 0 else jitted(*given)
        for one, other in zip(found, expected, strict=True):
            assert one.detach().numpy().tobytes() == other.tobytes()


DIGEST = "from tests.test_cpu_gelu import digest; print(digest())"


def digest() -> str:
    found = sha256()
    for kind in (F32, F64):
        x = points(kind, 100_000)
        for name in FORMS:
            y = found_by(name, x)
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


# The slow lane.


def every_float32(name: str) -> Worst:
    found, chunk = ROUNDED, 1 << 16  # stays in a cache
    for i in range(0, 2**32, chunk):
        x = np.arange(i, i + chunk, dtype=np.uint32).view(np.float32)
        found = worst(name, x, truth(name, x), found)
    return found


def many_float64(name: str) -> Worst:
    return worst(name, *by_mpmath(name, 20_000))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_every_float32(name: str) -> None:
    found, where = every_float32(name)
    assert found <= BOUND, (found, shown(where))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_many_float64(name: str) -> None:
    found, where = many_float64(name)
    assert found <= BOUND, (found, shown(where))


# The page.

HEAD = (
    "| composite | float32: worst | at | float64: worst | at |\n| --- | --- | --- | --- | --- |\n"
)


def write(names: list[str]) -> None:
    """Measures forms and puts their lines into the table of the page."""
    for name in names:
        start = time.perf_counter()
        cells = []
        for found, where in (every_float32(name), many_float64(name)):
            cells += [f"{found:.3f}", f"`{shown(where)}`"]
        before, table = PAGE.read_text().split(HEAD)
        lines, _, after = table.partition("\n\n")
        rows = {line.split("|")[1].strip(): line for line in lines.splitlines() if line}
        rows[name] = f"| {name} | " + " | ".join(cells) + " |"
        print(rows[name], f"{time.perf_counter() - start:.0f} s", flush=True)
        kept = "\n".join(rows[n] for n in FORMS if n in rows)
        PAGE.write_text(f"{before}{HEAD}{kept}\n\n{after}")


if __name__ == "__main__":
    write(sys.argv[1:] or list(FORMS))
