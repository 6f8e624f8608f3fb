"""The constructs of Python and what conversion makes of each: the table behind chapter 11.

A row is a construct, what becomes of it where its condition is a recorded tensor, the source of a
function `f`, and either the arguments of calls (that take different ways) or a part of the error.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

GRAPH: Final = "graph"
PYTHON: Final = "Python"
ERROR: Final = "error"


class Row(NamedTuple):
    construct: str
    becomes: str
    source: str
    calls: tuple[tuple[Any, ...], ...] = ()
    error: str = ""
    node: str = ""  # the operation that must be there


PAIR: Final = ((2.0,), (-3.0,))
THREE: Final = ((0.5,), (3.0,), (40.0,))
ROWS: Final = (([1.0, -2.0, 3.0],), ([-1.0, 5.0, 0.5],))

TABLE: Final = [
    Row("`if`, `elif`, `else`", GRAPH, """
def f(x):
    if x > 1:
        y = x * 2
    elif x < -1:
        y = -x
    else:
        y = x + 0
    return y
""", PAIR, node="branch"),
    Row("conditional expression", GRAPH, """
def f(x):
    return x * 2 if x > 0 else x - 1
""", PAIR, node="branch"),
    Row("`and`, `or`, `not`", GRAPH, """
def f(x):
    if x > 0 and not x > 5 or x == -3:
        return x
    return x * 0.5
""", THREE + PAIR, node="branch"),
    Row("chained comparison", GRAPH, """
def f(x):
    return x if 0 < x * 2 < 10 else -x
""", THREE + PAIR, node="branch"),
    Row("`while`", GRAPH, """
def f(x):
    n = 0
    while x > 1:
        x = x * 0.5
        n += 1
    return x, n
""", THREE, node="loop"),
    Row("`while` with `else`", GRAPH, """
def f(x):
    while x > 1:
        x = x * 0.5
        if 2 < x < 3:
            break
    else:
        x = x - 10
    return x
""", THREE, node="loop"),
    Row("`:=` in the test of a loop", GRAPH, """
def f(x):
    while (y := x * 0.5) > 1:
        x = y - 0.1
    return x, y
""", THREE, node="loop"),
    Row("`for` over a range with a tensor as bound", GRAPH, """
def f(n):
    total = 0
    for i in range(1, n + 1):
        total += i * i
    for i in range(n, 0, -1):
        total -= i
    return total
""", ((4,), (0,)), node="loop"),
    Row("`for` over a Python range", PYTHON, """
def f(x):
    for i in range(3):
        x = x * i if i else x + 1
    return x
""", PAIR),
    Row("`for` over a Python range that a tensor ends", GRAPH, """
def f(x):
    for i in range(20):
        if x > 30:
            break
        x = x * 2 + i
    return x
""", THREE, node="loop"),
    Row("`for` over the rows of a tensor", GRAPH, """
def f(x):
    total = 0.0
    for row in x:
        total = total * 0.5 + row
    return total
""", ROWS, node="scan"),
    Row("`for` with `else`", GRAPH, """
def f(x):
    for row in x:
        if row > 4:
            break
    else:
        row = x[0] * 100
    return row * 2
""", ROWS),
    Row("`continue`", GRAPH, """
def f(x):
    total = 0.0
    for row in x:
        if row < 0:
            continue
        total = total + row
    return total
""", ROWS, node="scan"),
    Row("`return` anywhere", GRAPH, """
def f(x):
    if x.sum() > 100:
        return x[0] * 0, -1
    for i in range(3):
        for j in range(3):
            if x[i] * x[j] < -5:
                return x[i], i + 10 * j
    return x[0], 0
""", ROWS, node="branch"),
    Row("`for` over anything else", PYTHON, """
def f(x):
    for scale, name in zip([1.0, 2.0], "ab"):
        if name == "b":
            x = x * scale
        if x > 100:
            break
    return x
""", PAIR),
    Row("a list that grows in an unrolled loop", PYTHON, """
def f(x):
    rows = []
    for row in x:
        rows.append(row * 2)
    return rows
""", ROWS),
    Row("a list that grows in a loop of the graph", ERROR, """
def f(x):
    rows = []
    while x > 1:
        rows.append(x)
        x = x * 0.5
    return rows
""", THREE, "a list of 0 that has 1"),
    Row("items of tensors, assigned", GRAPH, """
def f(x):
    y = x * 1
    i = 0
    while i < 2 or y[i] > 100:
        if y[i] < 0:
            y[i] = -y[i]
        y[i + 1] += 0.5
        i += 1
    return y
""", ROWS, node="branch"),
    Row("items of lists and dicts, assigned", GRAPH, """
def f(x):
    d, xs = {"a": x, "n": 0}, [x, 1]
    if x > 0:
        d["a"] = x * 2
        d["n"] += 1
        xs[1] = 5
    return d, xs
""", PAIR, node="branch"),
    Row("an item that only one side sets", ERROR, """
def f(x):
    d = {}
    if x > 0:
        d["a"] = x * 2
    return d["a"]
""", PAIR, "item 'a' of a dict"),
    Row("attributes, assigned", GRAPH, """
class Thing:
    pass

def f(x):
    thing = Thing()
    thing.value, thing.count = x, 0
    while thing.value > 1:
        thing.value = thing.value * 0.5
        thing.count += 1
    return thing.value, thing.count
""", THREE, node="loop"),
    Row("changes in place", GRAPH, """
def f(x):
    y = x * 1
    z = y
    if x > 0:
        y += 1
    while y > 5:
        y -= 2
    return y, z
""", THREE + PAIR, node="loop"),
    Row("`assert`", GRAPH, """
def f(x):
    assert x > -100, "far too small"
    return x
""", PAIR),
    Row("`assert` in a branch or loop", ERROR, """
def f(x):
    while x > 1:
        x = x * 0.5
        assert x > 0
    return x
""", THREE, "an assertion about a recorded tensor in a branch"),
    Row("`print`", GRAPH, """
def f(x):
    print("x is", x, sep=": ")
    return x
""", PAIR),
    Row("`print` of a tensor in a branch or loop", ERROR, """
def f(x):
    if x > 0:
        print(x)
    return x
""", PAIR, "pa.print in an `if`"),
    Row("`raise` in a branch", ERROR, """
def f(x):
    if x < 0:
        raise ValueError("negative")
    return x
""", PAIR, "`raise ValueError` in an `if`"),
    Row("nested functions, lambdas, `nonlocal`", GRAPH, """
def f(x):
    count = 0
    def inner(v, by=2.0):
        nonlocal count
        if v > 1:
            count += 1
            return v * by
        return v
    outer = lambda v: inner(v) if v < 10 else v
    return outer(x) + outer(-x), count
""", THREE, node="branch"),
    Row("your functions, methods and modules", GRAPH, """
from proa import nn

def helper(v):
    return v if v > 0 else -v

class Base(nn.Module):
    def forward(self, v):
        return helper(v) * 2

class Model(Base):
    def forward(self, v):
        if v > 1:
            return super().forward(v)
        return Base.forward(self, -v)

model = nn.Sequential(Model(), Model())

def f(x):
    return model(x)
""", PAIR, node="branch"),
    Row("decorated functions", GRAPH, """
import functools

def twice(function):
    @functools.wraps(function)
    def run(x):
        y = function(x)
        return function(y) if y > 0 else y
    return run

@twice
def g(x):
    if x > 1:
        return x - 3
    return x

def f(x):
    return g(x)
""", THREE, node="branch"),
    Row("dataclasses and named tuples", GRAPH, """
from dataclasses import dataclass
from typing import NamedTuple

class Pair(NamedTuple):
    a: object
    b: object

@dataclass
class State:
    x: object
    def step(self):
        if self.x > 1:
            self.x = self.x * 0.5

def f(x):
    s = State(x)
    p = Pair(x, 1)
    while p.a > 1:
        p = Pair(p.a * 0.5, p.b + 1)
        s.step()
    return s.x, p
""", THREE, node="loop"),
    Row("recursion with static depth", GRAPH, """
def g(x, depth):
    if depth == 0:
        return x
    return g(x * 0.5, depth - 1) if x > 1 else g(x + 1, depth - 1)

def f(x):
    return g(x, 4)
""", THREE, node="branch"),
    Row("`with`", GRAPH, """
import proa as pa

def f(x):
    while x > 1:
        with pa.no_grad():
            if x > 10:
                x = x - 5
                continue
        x = x * 0.5
    return x
""", THREE, node="loop"),
    Row("`try`", GRAPH, """
def f(x):
    if x > 0:
        try:
            y = {}["a"]
        except KeyError:
            y = x * 2
        finally:
            y = y + 1
    else:
        y = x
    return y
""", PAIR, node="branch"),
    Row("`return` from `finally`", ERROR, """
def f(x):
    try:
        if x > 0:
            x = x * 2
    finally:
        return x
""", PAIR, "which leaves from `finally`"),
    Row("`match` of Python values", GRAPH, """
def f(x):
    for kind in ("a", ("b", 3), 5):
        if x > -5:
            match kind:
                case "a":
                    x = x - 1
                case ("b", n):
                    x = x * n
                case _ if x is not None:
                    x = x + 1
    return x
""", PAIR, node="branch"),
    Row("`match` of a tensor", ERROR, """
def f(x):
    match x:
        case 0:
            return x
        case _:
            return -x
""", PAIR, "`match` of a recorded tensor"),
    Row("`del` of a name", GRAPH, """
def f(x):
    y = x * 2
    if x > 0:
        z = y + 1
        del y
        y = z
        del z
    return y
""", PAIR, node="branch"),
    Row("`global`", GRAPH, """
total = 1

def f(x):
    global total
    total = 1
    if x > 0:
        total = total + 1
    y = x * total
    total = 1
    return y
""", PAIR, node="branch"),
    Row("a name that one side does not define", ERROR, """
def f(x):
    if x > 0:
        y = x
    return y
""", PAIR, "`y`, which one side of an `if`"),
    Row("a name that only a loop defines", ERROR, """
def f(x):
    while x > 1:
        x = x * 0.5
        y = x
    return y
""", THREE, "`y`, which only a round of a `while`"),
    Row("shapes or dtypes that differ", ERROR, """
def f(x):
    y = x
    if x.sum() > 0:
        y = x[:2]
    return y
""", ROWS, "`y` that is float32[2] on one side and float32[3]"),
    Row("state that takes another shape in each round", ERROR, """
import proa as pa

def f(x):
    while x.sum() < 20:
        x = pa.concat([x, x])
    return x
""", ROWS, "`x` that is float32[3] before a round and float32[6] after it"),
    Row("a tensor on one side, None on the other", ERROR, """
def f(x):
    if x > 0:
        return x
""", PAIR, "the result that is float32[] on one side and None on the other"),
    Row("comprehension over rows", PYTHON, """
def f(x):
    return [row * 2 if row > 0 else row for row in x]
""", ROWS, node="branch"),
    Row("comprehension with a tensor as its condition", ERROR, """
def f(x):
    return [row for row in x if row > 0]
""", ROWS, "a recorded tensor as the test in a comprehension"),
    Row("`:=` inside `and`, `or`, a conditional expression", ERROR, """
def f(x):
    return x if x > 0 and (y := x * 2) > 1 else -x
""", PAIR, "an `and` with `:=`"),
    Row("`max`, `min`, `abs`, `int`, `float`, `bool`, `.item()`", GRAPH, """
def f(x):
    y = max(x, 1.5) + min(2.0, x, -x) + abs(x)
    n = int(y) + 3
    while n > 0 and bool(x < 100) and x.item() < 50:
        n -= 1
    return y, n, float(x) * 2
""", THREE + PAIR, node="loop"),
    Row("generators", ERROR, """
def rows(x):
    while x > 1:
        yield x
        x = x * 0.5

def f(x):
    return list(rows(x))
""", THREE, "a recorded tensor as the test in a generator"),
    Row("`async` functions", ERROR, """
async def f(x):
    return x if x > 0 else -x
""", PAIR, "`f`, a coroutine"),
    Row("a range with a tensor as its step", ERROR, """
def f(n):
    total = 0
    for i in range(0, 10, n):
        total += i
    return total
""", ((4,),), "a range with a recorded step"),
    Row("a test that changes something", ERROR, """
import proa as pa

def f(x):
    while x > pa.rand(()):
        x = x * 0.5
    return x
""", THREE, "a test that changes a tensor"),
    Row("random numbers in a loop", GRAPH, """
import proa as pa

def f(x):
    g = pa.Generator(3)
    while x > 1:
        x = x * pa.rand((), generator=g)
    return x
""", THREE, node="loop"),
    Row("`backward()` in a branch or loop", ERROR, """
def f(x):
    w = (x * 1).detach() * 1
    w.requires_grad_()
    if x > 0:
        (w * w).backward()
    return x
""", PAIR, "a gradient that is filled"),
]  # fmt: skip
