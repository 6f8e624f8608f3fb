"""Plants faults one by one, each of which the tests must catch: `python tools/mutate.py`.

The tree is copied to a temporary folder. There each fault replaces a text that occurs exactly
once, and the tests named beside it run. A fault is caught if they fail and missed if they pass;
the exit status is 1 if one is missed, if a text is stale, or if the tests fail without it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = ("proa", "tests", "tools", "docs", "benchmarks", "pyproject.toml", "README.md")
FAILED = 1  # pytest's exit status when tests ran and some failed


class Fault(NamedTuple):
    """What is wrong, where, the texts before and after, and the tests that must see it."""

    what: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def fault(what: str, file: str, old: str, new: str, *tests: str) -> Fault:
    """A fault of one edit."""
    return Fault(what, file, ((old, new),), tests)


ONE_OF = """def one_of(v: Value, known: dict[Value, int]) -> Value:
    if type(v.buffer) not in SCALAR_TYPES or v in known:
        return v
    return next((k for k in known if k.spec is v.spec and k.buffer == v.buffer), v)


"""

FAULTS = (
    fault(
        "a sign in a derivative (cos)", "proa/ops/functions.py",
        "jvp=lambda x, y, dx: -sin(x) * dx", "jvp=lambda x, y, dx: sin(x) * dx",
        "tests/test_laws.py::test_law[cos-forward]",
    ),
    fault(
        "swapped letters in a factor map (permute)", "proa/ops/movement.py",
        "return same._replace(results=(tuple(axes),))",
        "return same._replace(results=(tuple(int(i) for i in np.argsort(axes)),))",
        "tests/test_laws.py", "-k", "permute",
    ),
    fault(
        "swapped letters in a transpose (dot)", "proa/ops/contraction.py",
        "return dot(operands[0], cts[0], a=other, b=out, out=mine)",
        "return dot(operands[0], cts[0], a=other, b=out, out=mine[::-1])",
        "tests/test_laws.py::test_law[dot-reverse]",
    ),
    fault(
        "a padding off by one (the derivative of conv)", "proa/ops/window.py",
        "padding.append((span - 1 - low, needed - given - (span - 1 - low)))",
        "padding.append((span - low, needed - given - (span - low)))",
        "tests/test_laws.py::test_law[conv-reverse]",
    ),
    Fault(
        "numbers merged by value", "proa/record/key.py",
        (
            ("leaf.setdefault(v, ~len(leaf))", "leaf.setdefault(one_of(v, leaf), ~len(leaf))"),
            ("else number[v]\n", "else number[one_of(v, number)]\n"),
            ("by_serial: Final = ", ONE_OF + "by_serial: Final = "),
        ),
        ("tests/test_optim.py::test_a_rate_that_equals_eps_makes_no_new_program",
         "tests/test_programs.py", "-k", "eps or corrections"),
    ),
    fault(
        "a buffer kept where the handle should be (jit)", "proa/capture/plan.py",
        "self.from_handles.append((i, h, v.spec))", "self.constants.append((i, v.buffer))",
        "tests/test_jit.py::test_load_state_dict_between_calls",
    ),
    fault(
        "a lost in-place write", "proa/tensor.py",
        "    rebind(tensor, new.value)\n    return tensor", "    return tensor",
        "tests/test_indexing.py", "-k", "writing_as_numpy",
    ),
    fault(
        "a stale flag: the epoch is not compared (jit)", "proa/capture/skeleton.py",
        "if self.count == epoch.count and _same(",
        "if _same(",
        "tests/test_jit.py", "-k", "eval or hook",
    ),
    fault(
        "reading before backward keeps no residuals", "proa/record/boundary.py",
        "                found.append(v)\n            if v.spec.grad",
        "                pass\n            if v.spec.grad",
        "tests/test_equalities.py", "-k", "no_contraction_runs_twice",
    ),
    fault(
        "a spent tape is not cut", "proa/record/boundary.py",
        "elif node.spent or _is_flat(node):", "elif False:",
        "tests/test_memory.py", "-k", "kept_losses or running_total",
    ),
    fault(
        "weak numbers decide the dtype", "proa/dtypes.py",
        "    if weak.rank <= strong.rank:\n        return strong\n",
        "    if weak.rank <= strong.rank:\n        return promote(strong, weak)\n",
        "tests/test_array.py", "-k", "unary or binary",
    ),
    fault(
        "argmax takes the last of equal elements", "proa/ops/reductions.py",
        "np.asarray(np.argmax(x, axis=axes[0]))",
        "np.asarray(x.shape[axes[0]] - 1 - np.argmax(np.flip(x, axes[0]), axis=axes[0]))",
        "tests/test_xla.py", "-k", "ties",
    ),
    fault(
        "an integer divided by zero", "proa/ops/arithmetic.py",
        "return np.where(b == 0, np.zeros_like(a), np.floor_divide(a, safe))",
        "return np.floor_divide(a, safe)",
        "tests/test_array.py", "-k", "integers",
    ),
    fault(
        "ties of max do not share the gradient", "proa/ops/reductions.py",
        "return apply(sum_, (ones * dx,), axes=axes) / count",
        "return apply(sum_, (ones * dx,), axes=axes)",
        "tests/test_golden.py", "-k", "max_ties",
    ),
    fault(
        "a rotation constant of threefry", "proa/ops/creation.py",
        "(13, 15, 26, 6)", "(13, 15, 26, 7)",
        "tests/test_indexing_window_scan.py", "-k", "threefry",
    ),
    fault(
        "a gradient replaced instead of added", "proa/autograd.py",
        "rebind(leaf.grad, (leaf.grad + Tensor(g)).value if leaf.full else g)",
        "rebind(leaf.grad, g)",
        "tests/test_jit.py", "-k", "full_and_empty",
    ),
    fault(
        "no_grad is ignored", "proa/record/live.py",
        "        if mode & NO_GRAD:\n            entry = entry.plain\n",
        "        pass\n",
        "tests/test_jit.py", "-k", "modes",
    ),
    fault(
        "the mapped axis in the wrong place (reductions)", "proa/ops/families/reduction.py",
        'params | {"axes": shifted(params["axes"])}', 'params | {"axes": params["axes"]}',
        "tests/test_laws.py", "-k", "sum and batching",
    ),
    fault(
        "simplify drops a slice that cuts", "proa/transforms/simplify.py",
        "return _same_spec(step, operands) if all(s == 1 for s in strides) else None",
        "return operands[0] if all(s == 1 for s in strides) else None",
        "tests/test_graph.py", "tests/test_random.py",
    ),
    fault(
        "the key of a program without its results", "proa/record/key.py",
        "    flat += outs\n", "",
        "tests/test_recording.py", "-k", "what_is_alive",
    ),
    fault(
        "of two cotangents of one value the last one counts", "proa/transforms/reverse.py",
        "strict=True):\n        total[step.slots[i]] = add_tangents(total.get(step.slots[i]), ct)",
        "strict=True):\n        total[step.slots[i]] = ct",
        "tests/test_composites.py", "-k", "first_derivatives",
    ),
    fault(
        "a view of a tensor that can be written to", "proa/backends/numpy/backend.py",
        "        view.flags.writeable = False\n", "",
        "tests/test_recording.py", "-k", "copies or copied or door or view",
    ),
    fault(
        "a generator that is not advanced", "proa/random.py",
        '        assign(self.state, apply(_advance, (self.state,)), "Generator")\n', "",
        "tests/test_random.py", "-k", "differ",
    ),
    fault(
        "select sends the cotangent to the other branch", "proa/ops/arithmetic.py",
        "kept = select(chosen, ct, zero) if index == 1 else select(chosen, zero, ct)",
        "kept = select(chosen, ct, zero) if index == 2 else select(chosen, zero, ct)",
        "tests/test_laws.py", "-k", "select and reverse",
    ),
)  # fmt: skip


def stale(of: Fault, root: Path = ROOT) -> str:
    """Why a fault cannot be planted, or an empty string."""
    path = root / of.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for old, _ in of.edits:
        if text.count(old) != 1:
            return f"{of.file} has {text.count(old)} times {old!r:.80}"
    files = [t.split("::")[0] for t in of.tests if t.startswith("tests/")]
    gone = [name for name in files if not (root / name).is_file()]
    return f"no file {gone[0]}" if gone else ""


def copied(folder: Path) -> Path:
    """A copy of the tree without caches."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, folder / name, ignore=ignored)
        elif source.is_file():
            shutil.copy2(source, folder / name)
    return folder


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit status in the copy, and the last lines that it wrote."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return found.returncode, "\n".join((found.stdout + found.stderr).splitlines()[-12:])


def plant(of: Fault, folder: Path) -> str:
    """Writes the fault into the copy; returns the file's text before."""
    path = folder / of.file
    before = text = path.read_text(encoding="utf-8")
    for old, new in of.edits:
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return before


def tried(of: Fault, folder: Path, clean: dict[tuple[str, ...], bool]) -> tuple[str, str]:
    """`caught`, `missed` or what else is wrong, and what pytest wrote."""
    if reason := stale(of, folder):
        return "stale", reason
    if of.tests not in clean:
        status, text = run_tests(folder, of.tests)
        clean[of.tests] = status == 0
        if status:
            return "the tests do not pass without it", text
    if not clean[of.tests]:
        return "the tests do not pass without it", ""
    before = plant(of, folder)
    try:
        status, text = run_tests(folder, of.tests)
    finally:
        (folder / of.file).write_text(before, encoding="utf-8")
    verdicts = {FAILED: "caught", 0: "missed"}
    return verdicts.get(status, f"no test failed, pytest ended with {status}"), text


def chosen(only: Sequence[int]) -> list[tuple[int, Fault]]:
    """The faults with their numbers, from 1."""
    numbered = list(enumerate(FAULTS, 1))
    return [(n, f) for n, f in numbered if not only or n in only]


def show_list(faults: Sequence[tuple[int, Fault]]) -> int:
    """Lists the faults; 1 if one is stale."""
    reasons = [stale(f) for _, f in faults]
    for (n, f), reason in zip(faults, reasons, strict=True):
        print(f"{n:2d}  {f.what}\n    {f.file}: {' '.join(f.tests)}")
        if reason:
            print(f"    STALE: {reason}")
    return 1 if any(reasons) else 0


def main() -> int:
    """Plants the faults; 0 if every one was caught."""
    parser = argparse.ArgumentParser(description="Plants faults that the tests must catch.")
    parser.add_argument("--list", action="store_true", help="list the faults, run nothing")
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="N", help="these only")
    options = parser.parse_args()
    faults = chosen(options.only)
    if options.list:
        return show_list(faults)
    clean: dict[tuple[str, ...], bool] = {}
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="proa-mutate-") as name:
        folder = copied(Path(name))
        for n, f in faults:
            start = time.perf_counter()
            verdict, text = tried(f, folder, clean)
            verdicts.append(verdict)
            print(f"{n:2d}  {verdict:8} {time.perf_counter() - start:5.0f} s  {f.what}", flush=True)
            if verdict != "caught":
                print("\n".join(f"        {line}" for line in text.splitlines()), flush=True)
    caught = verdicts.count("caught")
    print(f"{caught} of {len(verdicts)} caught")
    return 0 if caught == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
