"""`proa doctor`: is this installation in order, and how is it mended?

Each check gives lines of three kinds: `ok`, `note` (works, but could be better) and `broken`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple, final

# The package, what it is for, and the extra that installs it (none: Proa needs it).
PACKAGES: Final = (
    ("numpy", "the backend numpy", None),
    ("scipy", "special functions", None),
    ("llvmlite", "the backend cpu", None),
    ("ml_dtypes", "narrow floats", None),
    ("safetensors", "files of tensors", None),
    ("rich", "progress bars", None),
    ("jax", "the backend xla", "xla"),
    ("jaxlib", "the backend xla", "xla"),
    ("matplotlib", "pictures of curves", "plot"),
    ("scikit-learn", "the digits of `proa demo --task digits`", "demo"),
)
THREADS: Final = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
OLDEST: Final = (3, 11)
SHOWN: Final = 4


@final
class Finding(NamedTuple):
    """What a check found.

    Arguments:
        kind: `ok`, `note` or `broken`.
        name: what was looked at.
        text: what was seen.
        mend: what to do about it.
    """

    kind: str
    name: str
    text: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proa doctor`."""
    parser.epilog = "exit status: 0 where all that is needed works, 1 where something is broken"
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Check everything; the exit status."""
    findings = examine()
    broken = [f for f in findings if f.kind == "broken"]
    if options.json:
        print(json.dumps({"healthy": not broken, "findings": [f._asdict() for f in findings]}))
    else:
        _tell(findings)
    return 1 if broken else 0


def examine() -> list[Finding]:
    """All findings, in order; a check that fails itself is one of them.

    Example:
        >>> {finding.kind for finding in examine()} <= {"ok", "note", "broken"}
        True
    """
    findings = []
    for check in CHECKS:
        try:
            findings += list(check())
        except (
            Exception
        ) as error:  # A broken installation may raise anything, and is what we look for.
            findings.append(
                Finding("broken", check.__name__.strip("_"), f"{type(error).__name__}: {error}")
            )
    return findings


def _tell(findings: list[Finding]) -> None:
    width = max(len(f.name) for f in findings)
    for f in findings:
        print(f"{f.kind:6}  {f.name:{width}}  {f.text}")
        if f.mend:
            print(f"{'':6}  {'':{width}}  -> {f.mend}")
    broken = sum(f.kind == "broken" for f in findings)
    print(f"\n{broken} broken" if broken else "\nAll that is needed works.")


# Checks.


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST:
        yield Finding("broken", "Python", text, "install Python 3.11 or newer")
    else:
        yield Finding("ok", "Python", text)
    if sys.flags.optimize:
        yield Finding("note", "Python", "runs with -O: checks of arguments by assert are off")


def _packages() -> Iterator[Finding]:
    import proa

    yield Finding("ok", "proa", f"{proa.__version__} at {Path(proa.__file__).parent}")
    for name, use, extra in PACKAGES:
        found = _version(name)
        if found is not None:
            yield Finding("ok", name, found)
        elif extra is None:
            yield Finding("broken", name, f"not installed ({use})", f"pip install {name}")
        else:
            yield Finding("note", name, f"not installed ({use})", f"pip install 'proa[{extra}]'")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> Iterator[Finding]:
    yield Finding(
        "ok", "processor", f"{processor_name()}, {platform.machine()}, {platform.system()}"
    )
    cores, machine = usable_cores(), os.cpu_count() or 1
    text = f"{cores} of {machine} usable" if cores < machine else f"{cores}"
    yield Finding("ok", "cores", text)


def processor_name() -> str:
    """The name of this machine's processor, as far as the system tells it.

    Example:
        >>> bool(processor_name())
        True
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def usable_cores() -> int:
    """The cores that this process may use.

    Example:
        >>> usable_cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compiler() -> Iterator[Finding]:
    """The processor as the backend `cpu` sees it, its threads, and the kernels that it keeps."""
    from proa.backends.cpu import cache
    from proa.backends.cpu.target import target
    from proa.backends.cpu.threads import get_num_threads

    yield Finding("ok", "target of cpu", str(target()))
    yield Finding("ok", "threads of cpu", str(get_num_threads()))
    count, nbytes = cache.held()
    kept = f"{cache.folder()}: {count:,} kernels, {nbytes / 1e6:.1f} MB"
    yield Finding("ok", "kernel cache", f"{kept} of at most {cache.LIMIT_BYTES / 1e6:.0f}")


def _blas() -> Iterator[Finding]:
    import numpy as np

    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    yield Finding(
        "ok", "BLAS", f"{build.get('name', 'unknown')} {build.get('version', '')}".strip()
    )
    hint = busy_hint()
    if hint:
        yield Finding("note", "cores", "busy with other work", hint)
    given = _thread_flags()
    if not given:
        yield Finding("ok", "BLAS threads", f"as many as cores ({usable_cores()})")
        return
    text = ", ".join(f"{k}={v}" for k, v in given.items())
    if any(not v.isdigit() or int(v) < 1 for v in given.values()):
        yield Finding("note", "BLAS threads", text, "give a whole number from 1 on")
    elif min(map(int, given.values())) < usable_cores():
        yield Finding("note", "BLAS threads", text, f"unset it to use all {usable_cores()} cores")
    else:
        yield Finding("ok", "BLAS threads", text)


def _thread_flags() -> dict[str, str]:
    return {name: os.environ[name] for name in THREADS if os.environ.get(name)}


def busy_hint() -> str:
    """What helps where other programs use the cores; empty where nothing is needed.

    Threads of a BLAS wait for each other: if one has no core, all stand still, and a small matrix
    product has taken thirty times as long (two threads on two cores, at a load of 5).

    Example:
        >>> isinstance(busy_hint(), str)
        True
    """
    if _thread_flags() or not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], usable_cores()
    if cores == 1 or load < cores / 2:
        return ""
    return f"OPENBLAS_NUM_THREADS=1 may be much faster at a load of {load:.1f} on {cores} cores"


def _flags() -> Iterator[Finding]:
    from proa.config import Config, config

    known = {f"PROA_{name.upper()}" for name in Config.__slots__}
    for name in sorted(k for k in os.environ if k.startswith("PROA_")):
        if name in known:
            yield Finding("ok", name, os.environ[name])
        else:
            yield Finding("note", name, "is no flag of Proa", "one of " + ", ".join(sorted(known)))
    yield _folder(
        "cache folder", config.cache_dir, "set PROA_CACHE_DIR to a folder that can be written"
    )
    yield _folder("temporary folder", Path(tempfile.gettempdir()), "set TMPDIR")
    yield _folder("this folder", Path.cwd(), "give `proa demo` another one with --out")


def _folder(name: str, path: Path, mend: str) -> Finding:
    """Whether a folder can be written, or made; nothing stays behind."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"proa")
    except OSError as error:
        return Finding("note", name, f"{path} cannot be written: {error.strerror}", mend)
    return Finding("ok", name, f"{path}" + ("" if there == path else " (not made yet)"))


def _devices() -> Iterator[Finding]:
    from proa.compile.find import backend, backend_names, default_device
    from proa.errors import MissingExtra, ProaError

    for name in backend_names():
        try:
            devices = backend(name).devices()
        except MissingExtra as error:
            yield Finding(
                "note", f"backend {name}", "not installed", str(error).partition("try ")[2]
            )
        except (ProaError, ImportError, RuntimeError) as error:
            kind = "broken" if name == "numpy" else "note"
            yield Finding(
                kind, f"backend {name}", f"{type(error).__name__}: {error}", "install it again"
            )
        else:
            yield Finding("ok", f"backend {name}", _listed(devices))
            if name != "null":
                yield _self_test(name)
    yield Finding("ok", "default device", str(default_device()))


def _listed(devices: Sequence[Any]) -> str:
    shown = "; ".join(f"{d}: {d.description or d.kind}" for d in devices[:SHOWN])
    return shown + (f"; {len(devices):,} in all" if len(devices) > SHOWN else "")


def _self_test(device: str) -> Finding:
    """A small gradient: against differences, and dynamic against `jit`."""
    import proa as pa

    name = f"gradient on {device}"
    try:
        with pa.device(device):
            wrong = _gradient_error()
    except Exception as error:  # Whatever is raised here is the finding.
        return Finding(
            "broken", name, f"{type(error).__name__}: {error}", f"use another device than {device}"
        )
    if not wrong < 1e-6:
        return Finding("broken", name, f"wrong by {wrong:.1e}", f"use another device than {device}")
    return Finding("ok", name, f"right to {wrong:.0e}")


def _gradient_error() -> float:
    """How far the gradient of sum(tanh(x w)^2) is from central differences, in float64."""
    import numpy as np

    import proa as pa

    random = np.random.default_rng(0)
    x, w = random.normal(size=(4, 3)), random.normal(size=(3, 2))

    def loss(weights: Any) -> Any:
        return (pa.tanh(pa.matmul(pa.asarray(x), weights)) ** 2).sum()

    found = [pa.grad(f)(pa.asarray(w)).numpy() for f in (loss, pa.jit(loss))]
    step = 1e-5
    wanted = np.zeros_like(w)
    for i in np.ndindex(*w.shape):
        move = np.zeros_like(w)
        move[i] = step
        up, down = (loss(pa.asarray(w + sign * move)).item() for sign in (1, -1))
        wanted[i] = (up - down) / (2 * step)
    return float(max(np.abs(f - wanted).max() for f in found))


CHECKS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    _python, _packages, _processor, _compiler, _blas, _flags, _devices,
)  # fmt: skip
