"""Forty programs of plain dynamic Python whose control flow depends on values.

Each is written as one would write it without thinking of graphs. `PROGRAMS` lists them by name
with the arguments of several calls that take different ways, and the arguments by which they are
differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import proa as pa
from proa import nn


class Program(NamedTuple):
    function: Any
    calls: tuple[tuple[Any, ...], ...]
    by: tuple[int, ...] = ()  # arguments to differentiate by
    endless: bool = False  # a `while` without a bound: no reverse mode once it is an operation


PROGRAMS: dict[str, Program] = {}


def program(*calls: tuple[Any, ...], by: tuple[int, ...] = (), endless: bool = False) -> Any:
    def add(function: Any) -> Any:
        PROGRAMS[function.__name__] = Program(function, calls, by, endless)
        return function

    return add


# Loops whose length depends on values.


@program((27,), (1,), (6,))
def collatz(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


@program((48, 18), (7, 3), (5, 0))
def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return a


@program((2.0,), (9.0,), (0.5,), by=(0,))
def newton(a):
    x = a
    for _ in range(40):
        new = 0.5 * (x + a / x)
        if pa.abs(new - x) < 1e-5:
            break
        x = new
    return x


@program((2.0,), (0.3,), by=(0,))
def bisection(a):
    low, high = 0.0, 4.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        if middle * middle > a:
            high = middle
        else:
            low = middle
        if high - low < 1e-4:
            break
    return a * low


@program((1.0, 0.5), (3.0, 0.1), by=(0,))
def adaptive_ode(y, tolerance):
    """y' = -y from 0 to 1 by Euler and Heun, with a step that follows their difference."""
    t = tolerance * 0.0
    h = 0.25
    steps = 0
    for _ in range(60):
        if t >= 1.0:
            break
        h = min(h, 1.0 - t)
        slope = -y
        euler = y + h * slope
        heun = y + 0.5 * h * (slope - euler)
        if pa.abs(heun - euler) > tolerance * 0.1:
            h = h * 0.5
            continue
        y, t = heun, t + h
        h = h * 1.5
        steps += 1
    return y, steps


@program(([[2.0, 1.0], [1.0, 3.0]],), ([[4.0, 0.0], [0.0, 1.0]],), by=(0,))
def power_iteration(m):
    v = pa.ones((m.shape[0],))
    value = (v * v).sum()
    for _ in range(50):
        w = m @ v
        size = pa.sqrt((w * w).sum())
        w = w / size
        done = pa.abs(size - value) < 1e-4
        v, value = w, size
        if done:
            break
    return value, v


@program(([0.0, 1.0, 10.0, 11.0, 0.5],), ([5.0, 5.0, 5.0, 5.0, 5.0],))
def k_means(points):
    a, b = points.min(), points.max()
    rounds = 0
    while True:
        near = pa.abs(points - a) <= pa.abs(points - b)
        count = near.sum()
        new_a = pa.where(near, points, 0.0).sum() / pa.maximum(count, 1)
        new_b = pa.where(near, 0.0, points).sum() / pa.maximum(points.shape[0] - count, 1)
        rounds += 1
        if new_a == a and new_b == b or rounds > 20:
            return new_a, new_b, rounds
        a, b = new_a, new_b


@program(([3.0, -2.0],), ([0.1, 0.1],), by=(0,))
def line_search(x):
    for _ in range(5):
        value, slope = (x * x).sum() + x[0] * x[1], 2.0 * x + pa.flip(x)
        rate = 1.0
        for _ in range(8):
            new = x - rate * slope
            if (new * new).sum() + new[0] * new[1] < value - 0.1 * rate * (slope * slope).sum():
                break
            rate *= 0.5
        x = x - rate * slope
    return x


@program(([1.0, 3.0, 5.0, 7.0, 9.0], 6.0), ([1.0, 3.0, 5.0, 7.0, 9.0], 0.0),
         ([1.0, 3.0, 5.0, 7.0, 9.0], 10.0))  # fmt: skip
def binary_search(rows, wanted):
    low, high = 0, rows.shape[0]
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@program((2.0, 10), (1.5, 0), (3.0, 5))
def power_by_squaring(x, n):
    result = 1.0
    while n > 0:
        if n % 2 == 1:
            result = result * x
        x = x * x
        n //= 2
    return result


@program(([[0.0, 1.0], [-1.0, 0.0]],), ([[4.0, 0.0], [0.0, 2.0]],), by=(0,))
def matrix_exponential(m):
    squarings = 0
    for _ in range(10):
        if pa.abs(m).max() <= 0.5:
            break
        m = m * 0.5
        squarings += 1
    result = term = pa.eye(m.shape[0])
    for k in range(1, 8):
        term = term @ m / k
        result = result + term
    for i in range(10):
        if i < squarings:
            result = result @ result
    return result


@program((0,), (3,))
def rejection_sampling(seed):
    """Points of the unit disc, drawn until one is inside."""
    key = seed * 2654435761 + 12345
    tries = 0
    while True:
        key = (key * 1103515245 + 12345) % 2147483648
        x = key / 1073741824 - 1.0
        key = (key * 1103515245 + 12345) % 2147483648
        y = key / 1073741824 - 1.0
        tries += 1
        if x * x + y * y < 0.3:
            return x, y, tries


@program((1.0, 2.0), (0.2, -1.0), by=(0, 1))
def euler_with_events(height, speed):
    """A ball that bounces: the sign of the speed turns when it meets the ground."""
    bounces = 0
    for _ in range(40):
        speed = speed - 0.1
        height = height + 0.1 * speed
        if height < 0.0:
            height, speed = -height, -0.8 * speed
            bounces += 1
        if bounces == 3:
            break
    return height, speed, bounces


@program((100,), (2,), (30,))
def count_primes(limit):
    count = 0
    n = limit * 0 + 2
    while n < limit:
        prime = True
        d = 2
        while d * d <= n:
            if n % d == 0:
                prime = False
                break
            d += 1
        if prime:
            count += 1
        n += 1
    return count


@program((3,), (0,), (5,))
def triangle(n):
    """Nested loops whose lengths depend on data."""
    total = 0
    for i in range(n):
        for j in range(i + 1):
            total += i * j
    return total


@program((0.3, 0.5), (2.0, 2.0), (-0.7, 0.2))
def mandelbrot(x, y):
    a, b = x * 0.0, y * 0.0
    for step in range(30):
        a, b = a * a - b * b + x, 2.0 * a * b + y
        if a * a + b * b > 4.0:
            return step
    return -1


# Choices, and leaving early.


@program(([1.0, -2.0, 3.0],), ([-1.0, -2.0],), by=(0,))
def early_return(x):
    if x.sum() < 0:
        return -x
    y = x * x
    if y.max() > 5.0:
        return y * 0.5
    return y + x


@program(([1.0, 2.0, 3.0, 4.0], 2.5), ([1.0, 2.0, 3.0, 4.0], 9.0))
def first_above(x, bound):
    for i in range(x.shape[0]):
        if x[i] > bound:
            return i
    return -1


@program(([3.0, -1.0, 2.0],), ([0.5, 0.2, 0.1],), by=(0,))
def clipped_sum(x):
    total = 0.0
    for v in x:
        if v < 0:
            continue
        total = total + v
        if total > 4.0:
            break
    else:
        total = total * 2.0
    return total


@program((0.5,), (1.5,), (-2.0,), (7.0,), by=(0,))
def piecewise(x):
    if x < -1:
        y = -x
    elif x < 1:
        y = x * x
    elif x < 2 or x > 6:
        y = pa.sqrt(x)
    else:
        y = x * 0.0
    return y if 0 < y < 10 else x


@program(([0.2, 0.1],), ([2.0, 1.0],), ([9.0, -9.0],), by=(0,))
def early_exit_classifier(x):
    """Layers until one is sure enough."""
    for scale in [1.0, 2.0, 4.0]:
        x = pa.tanh(x * scale)
        p = pa.softmax(x, axis=-1)
        if p.max() > 0.8:
            return p
    return p


@program(([1.0, 5.0, 2.0, 8.0, 3.0],), ([-1.0, -2.0, -3.0],), by=(0,))
def running_maximum(x):
    best = x[0]
    rows = []
    for v in x:
        if v > best and not v > 7.0:
            best = v
        rows.append(best)
    return pa.stack(rows)


@program((4.0, True), (-4.0, True), (4.0, False), by=(0,))
def python_and_tensor_tests(x, flag):
    if flag and x > 0:
        x = x * 2.0
    elif not flag:
        x = x + 100.0
    assert x < 1000.0, "too large"
    return x


@program((5, 3), (3, 5), (4, 4))
def compare_three_ways(a, b):
    result = 0 if a == b else 1 if a > b else -1
    return max(a, b) - min(a, b), result


# Recurrences, and tables that are filled.


@program(([[1.0, 0.5], [0.2, -1.0], [2.0, 0.0]], [[0.5, -0.3], [0.1, 0.8]]), by=(0, 1))
def rnn_by_hand(xs, w):
    h = pa.zeros((w.shape[0],))
    rows = []
    for x in xs:
        h = pa.tanh(x + h @ w)
        rows.append(h)
    return pa.stack(rows), h


@program(([[1.0, 0.5], [0.2, -1.0], [2.0, 0.0]], 2), ([[1.0, 0.5], [0.2, -1.0], [2.0, 0.0]], 0),
         by=(0,))  # fmt: skip
def rnn_of_given_length(xs, length):
    h = pa.zeros((xs.shape[1],))
    for t in range(xs.shape[0]):
        if t >= length:
            break
        h = pa.tanh(xs[t] + 0.5 * h)
    return h


@program(([1.0, 2.0, 3.0], 2.0), ([0.5, 0.0, -1.0, 4.0], -1.5), by=(0, 1))
def horner(coefficients, x):
    value = 0.0
    for c in coefficients:
        value = value * x + c
    return value


@program(([[0.6, 0.4], [0.3, 0.7]], [[0.5, 0.5], [0.1, 0.9]], [0, 1, 1, 0]))
def viterbi(move, show, seen):
    best = show[:, seen[0]]
    back = []
    for t in range(1, seen.shape[0]):
        ways = best[:, None] * move
        back.append(pa.argmax(ways, axis=0))
        best = ways.max(axis=0) * show[:, seen[t]]
    state = pa.argmax(best)
    path = [state]
    for row in reversed(back):
        state = row[state]
        path.append(state)
    return pa.stack(path[::-1]), best.max()


@program(
    ([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.3, 0.3, 0.4]], 3),
)
def beam_search(scores, steps):
    """The two best ways through a table of scores, one list of tokens each."""
    beams = [([0], 0.0), ([1], 0.0)]
    for _ in range(3):
        rows = []
        for tokens, total in beams:
            after = pa.log(scores[tokens[-1]]) + total
            best = pa.argmax(after)
            other = pa.argmax(pa.where(pa.arange(3) == best, -100.0, after))
            rows += [(tokens + [best], after[best]), (tokens + [other], after[other])]
        first = rows[0]
        for row in rows[1:]:
            if row[1] > first[1]:
                first = row
        second = rows[0] if first[1] != rows[0][1] else rows[1]
        beams = [first, second]
    return pa.stack([pa.asarray(t) if isinstance(t, int) else t for t in beams[0][0]]), beams[0][1]


@program(([1, 2, 3, 3], [1, 3, 3]), ([1, 2, 3, 4], [5, 6, 7]))
def edit_distance(a, b):
    row = pa.arange(b.shape[0] + 1)
    for i in range(a.shape[0]):
        last = row + 0
        row[0] = i + 1
        for j in range(b.shape[0]):
            cost = last[j] if a[i] == b[j] else 1 + min(last[j], last[j + 1], row[j])
            row[j + 1] = cost
    return row[b.shape[0]]


@program(([1, 1, 0, 2, 2, 2, 0, 1],), ([0, 0, 0],), ([1, 2, 1, 2],))
def tokenizer(codes):
    """Letters (1), digits (2) and spaces (0): the number of words and of numbers."""
    state = words = numbers = 0
    for c in codes:
        if c == 0:
            state = 0
        elif state == 0:
            state = c
            if c == 1:
                words += 1
            else:
                numbers += 1
    return words, numbers


@program(([3.0, 1.0, 2.0, 0.5],), ([1.0, 2.0, 3.0, 4.0],))
def bubble_sort(x):
    x = x + 0.0
    swapped = True
    while swapped:
        swapped = False
        for i in range(x.shape[0] - 1):
            if x[i] > x[i + 1]:
                x[i], x[i + 1] = x[i + 1], x[i]
                swapped = True
    return x


@program(([1.0, -2.0, 3.0, -4.0],), by=(0,))
def accumulate_in_a_tensor(x):
    sums = pa.zeros((x.shape[0],))
    for i in range(x.shape[0]):
        before = sums[i - 1] if i > 0 else 0.0
        sums[i] = before + x[i] if x[i] > 0 else before
    return sums


@program((6,), (0,))
def fibonacci_table(n):
    table = pa.zeros((16,), dtype=pa.int64)
    table[1] = 1
    i = 2
    while i <= n:
        table[i] = table[i - 1] + table[i - 2]
        i += 1
    return table, table[n]


# Functions, methods, and other parts of Python.


@program(([3.0, 1.0, 2.0, 4.0],), ([1.0, -1.0],), by=(0,))
def recursion_with_static_depth(x):
    if x.shape[0] == 1:
        return x[0]
    half = x.shape[0] // 2
    left, right = recursion_with_static_depth(x[:half]), recursion_with_static_depth(x[half:])
    return left * 0.5 + right if left > right else left + right * 0.5


@program((3.0,), (-3.0,), by=(0,))
def nested_functions(x):
    scale = 2.0

    def bent(v):
        nonlocal scale
        if v > 0:
            return v * scale
        scale = 3.0
        return v * scale

    again = lambda v: bent(v) if v < 100 else v  # noqa: E731
    return again(x) + scale


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(pa.asarray([1.0, -2.0, 0.5]))

    def forward(self, x):
        y = x * self.weight
        if y.sum() > 0:
            return self.open(y)
        return -y

    def open(self, y):
        while (y * y).sum() > 1.0:
            y = 0.5 * y
        return y


class WiderGate(Gate):
    def forward(self, x):
        y = super().forward(x)
        return y * 3.0 if y[0] > 0.1 else y


@program(([4.0, 1.0, 2.0],), ([1.0, 2.0, 0.0],))
def module_with_branches(x):
    return WiderGate()(x)


@dataclass
class Ball:
    place: Any
    speed: Any

    def step(self):
        self.place = self.place + self.speed * 0.1
        if self.place > 1.0:
            self.place = 2.0 - self.place
            self.speed = -self.speed


@program((0.8, 1.0), (0.1, 0.5), by=(0, 1))
def dataclass_that_changes(place, speed):
    ball = Ball(place, speed)
    for _ in range(6):
        ball.step()
    return ball.place, ball.speed


@program(([1.0, 2.0],), ([-1.0, -2.0],), by=(0,))
def dictionary_of_state(x):
    state = {"value": x, "count": 0}
    for _ in range(4):
        if state["value"].sum() > 0.5:
            state["value"] = state["value"] * 0.5
            state["count"] += 1
    return state


@program(([2.0, 3.0], 0.1), ([0.01, 0.02], 0.1))
def gradient_descent_until_flat(x, rate):
    slope = pa.grad(lambda v: (v * v * v * v).sum())
    steps = 0
    while True:
        g = slope(x)
        if pa.abs(g).max() < 0.5 or steps >= 50:
            break
        x = x - rate * g * 0.5
        steps += 1
    return x, steps
