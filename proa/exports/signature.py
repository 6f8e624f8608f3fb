"""What an exported function takes and gives: trees of specs with names, and sizes with names."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from keyword import iskeyword
from math import isfinite
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa import dtypes
from proa.array import asarray
from proa.dtypes import Dtype
from proa.errors import ArgumentError, DtypeError, FileError, ShapeError, message
from proa.graph.spec import Spec
from proa.graph.spec import spec as interned
from proa.ops.functions import cast
from proa.ops.primitive import apply
from proa.shapes import Dim, as_shape
from proa.tensor import Tensor

DEPTH: Final = 60
MOST_LEAVES: Final = 100_000
_STATIC: Final = (bool, int, float, str, type(None))


def spec(shape: Any, dtype: Any = None) -> Spec:
    """What `pa.export` needs to know of an argument: shape and dtype.

    shape: sizes; a string names a size that may differ from call to call. dtype: the default one
    of floats if None.

    >>> import proa as pa
    >>> pa.spec(("batch", 784), pa.float32)
    float32[batch, 784]
    """
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    named = tuple([Dim(n) if isinstance(n, str) else n for n in sizes])
    found = dtypes.default_float() if dtype is None else dtypes.dtype(dtype)
    return interned(as_shape("spec", named, dims=True), found)


@final
class Form(NamedTuple):
    """A tree without its tensors. `kind`: tensor, value, tuple, list, dict or named; `keys`: of a
    dict, or the fields of a named tuple; `held`: a tensor's spec (of a result: in words), a value,
    or the tuple's name."""

    kind: str
    parts: tuple[Form, ...] = ()
    keys: tuple[Any, ...] = ()
    held: Any = None

    def specs(self) -> Iterator[Spec]:
        """Those of the tensors, from left to right."""
        if self.kind == "tensor":
            yield self.held
        for part in self.parts:
            yield from part.specs()

    def filled(self, leaves: Iterator[Any]) -> Any:
        """The tree with these tensors."""
        if self.kind == "tensor":
            return next(leaves)
        if self.kind == "value":
            return self.held
        items = [part.filled(leaves) for part in self.parts]
        if self.kind == "dict":
            return dict(zip(self.keys, items, strict=True))
        if self.kind == "named":
            return namedtuple(self.held, self.keys)(*items)
        return items if self.kind == "list" else tuple(items)

    def paths(self, name: str) -> Iterator[str]:
        """Where each tensor stands, as Python writes it."""
        if self.kind == "tensor":
            yield name
        for step, part in zip(self.steps(), self.parts, strict=True):
            yield from part.paths(name + step)

    def steps(self) -> list[str]:
        if self.kind == "named":
            return [f".{key}" for key in self.keys]
        return [f"[{key!r}]" for key in (self.keys or range(len(self.parts)))]

    def __repr__(self) -> str:
        if self.kind in ("tensor", "value"):
            return str(self.held) if self.kind == "tensor" else repr(self.held)
        parts = [repr(p) for p in self.parts]
        if self.kind == "dict":
            rows = [f"{k!r}: {p}" for k, p in zip(self.keys, parts, strict=True)]
            return "{" + ", ".join(rows) + "}"
        if self.kind == "named":
            rows = [f"{k}={p}" for k, p in zip(self.keys, parts, strict=True)]
            return f"{self.held}({', '.join(rows)})"
        if self.kind == "list":
            return f"[{', '.join(parts)}]"
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def dims_of(forms: Iterable[Form]) -> list[str]:
    """The names of the sizes in forms, in order."""
    sizes: list[Any] = [n for form in forms for of in form.specs() for n in of.shape]
    return list(dict.fromkeys([n.name for n in sizes if type(n) is Dim]))


def form_of(op: str, what: str, tree: Any, leaves: list[Any], depth: int = 0) -> Form:
    """The form of a tree; tensors (and specs) go into `leaves`."""
    if depth > DEPTH:
        raise ArgumentError(message(op, f"{what} of more than {DEPTH} levels", "a flatter tree"))
    kind = type(tree)
    if kind is Spec or kind is Tensor or isinstance(tree, np.ndarray):
        leaves.append(tree)
        of = tree if kind is Spec else asarray(tree).value.spec
        return Form("tensor", held=interned(of.shape, of.dtype))
    if kind in _STATIC:
        if kind is float and not isfinite(tree):
            raise ArgumentError(message(op, f"{what} {tree}", "a finite number", "a tensor"))
        return Form("value", held=tree)
    fields = getattr(kind, "_fields", None) if isinstance(tree, tuple) else None
    if kind is dict:
        rows, keys = list(tree.values()), tuple(tree)
        if any(type(k) not in (str, int) for k in keys):
            raise DtypeError(message(op, f"{what} with the keys {keys!r:.60}", "strings or ints"))
    elif kind is tuple or kind is list or fields is not None:
        rows, keys = list(tree), tuple(fields or ())
    else:
        given, expected = f"{what} of type {kind.__name__}", "tensors in tuples, lists and dicts"
        raise DtypeError(message(op, given, expected))
    parts = tuple([
        form_of(op, f"{what}{step}", item, leaves, depth + 1)
        for step, item in zip(_steps(keys, len(rows), fields), rows, strict=True)
    ])  # fmt: skip
    name = "dict" if kind is dict else "named" if fields is not None else kind.__name__
    return Form(name, parts, keys, kind.__name__ if fields is not None else None)


def _steps(keys: Any, count: int, fields: Any) -> list[str]:
    return [f".{k}" if fields else f"[{k!r}]" for k in (keys or range(count))]


@final
class Signature(NamedTuple):
    """Names and forms of arguments, of which the first `positional` may be given by position; the
    form of the result; the least and the greatest size (None: no bound) that each dim may have."""

    name: str
    positional: int
    arguments: tuple[tuple[str, Form], ...]
    result: Form
    dims: dict[str, tuple[int, int | None]]

    def __repr__(self) -> str:
        inner = [f"{name}: {form!r}" for name, form in self.arguments]
        if self.positional < len(inner):
            inner.insert(self.positional, "*")
        text = f"{self.name}({', '.join(inner)}) -> {self.result!r}"
        sizes = [
            f"{n} >= {low}" if high is None else f"{low} <= {n} <= {high}"
            for n, (low, high) in self.dims.items()
        ]
        return text + (f" where {', '.join(sizes)}" if sizes else "")

    def leaves(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Tensor], Any]:
        """The tensors of a call, checked, and the size of each dim."""
        names = [name for name, _ in self.arguments]
        if len(args) > self.positional:
            given = f"{len(args)} arguments"
            raise ArgumentError(message(self.name, given, f"at most {self.positional}: {self}"))
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in bound:
                given = f"the argument {name!r}" + (" twice" if name in bound else "")
                raise ArgumentError(message(self.name, given, f"the arguments of {self}"))
            bound[name] = value
        missing = [n for n in names if n not in bound]
        if missing:
            given = f"no {' and no '.join(missing)}"
            raise ArgumentError(message(self.name, given, f"the arguments of {self}"))
        sizes: dict[str, tuple[int, str]] = {}
        found: list[Tensor] = []
        for name, form in self.arguments:
            self._match(form, bound[name], name, found, sizes)
        return found, {name: n for name, (n, _) in sizes.items()}

    def _match(self, form: Form, given: Any, path: str, found: list[Tensor], sizes: Any) -> None:
        if form.kind == "tensor":
            found.append(self._tensor(form.held, given, path, sizes))
            return
        if form.kind == "value":
            if type(given) is not type(form.held) or given != form.held:
                text = f"{path} = {given!r:.60}"
                hint = "exporting the function once more for another value"
                raise ArgumentError(message(self.name, text, f"{form.held!r:.60}", hint))
            return
        kind = type(given)
        keys: Any = getattr(kind, "_fields", ()) if isinstance(given, tuple) else ()
        name = "named" if keys else kind.__name__
        if kind is dict:
            keys = tuple(given)
        if name != form.kind or set(keys) != set(form.keys) or len(given) != len(form.parts):
            raise ArgumentError(message(self.name, f"{path} = {_text(given)}", f"{form!r:.300}"))
        items = [given[k] for k in form.keys] if kind is dict else given
        for step, part, item in zip(form.steps(), form.parts, items, strict=True):
            self._match(part, item, path + step, found, sizes)

    def _tensor(self, of: Spec, given: Any, path: str, sizes: Any) -> Tensor:
        tensor = self._as_tensor(of.dtype, given, path, of)
        have = tensor.value.spec
        if have.dtype is not of.dtype:
            hint = f"{path}.astype(pa.{of.dtype.name})"
            raise DtypeError(message(self.name, f"{path} of {have.plain}", f"{of}", hint))
        if have.ndim != of.ndim:
            raise ShapeError(message(self.name, f"{path} of {have.plain}", f"{of}"))
        shape: tuple[Any, ...] = of.shape
        for axis, (n, size) in enumerate(zip(have.shape, shape, strict=True)):
            where = f"{path}.shape[{axis}]"
            if type(size) is not Dim:
                if n != size:
                    raise ShapeError(message(self.name, f"{path} of {have.plain}", f"{of}"))
                continue
            known, first = sizes.setdefault(size.name, (n, where))
            if known != n:
                expected = f"{size} = {known}, which is {first}"
                raise ShapeError(message(self.name, f"{where} = {n}", expected))
            low, high = self.dims[size.name]
            if n < low or (high is not None and n > high):
                expected = f"{low} <= {size}" + ("" if high is None else f" <= {high}")
                raise ShapeError(message(self.name, f"{where} = {n}", expected))
        return tensor

    def _as_tensor(self, dtype: Dtype, given: Any, path: str, of: Spec) -> Tensor:
        kind = type(given)
        if kind is Tensor:
            have = given.value.spec
            if have.weak and have.dtype.rank <= dtype.rank:  # made of Python numbers alone
                return Tensor(apply(cast, (given,), dtype=dtype, weak=False).value)
            return given  # type: ignore[no-any-return]
        if isinstance(given, (np.ndarray, np.generic)):
            return asarray(given)
        if kind in (bool, int, float, complex) and dtypes.weak_dtype(given).rank <= dtype.rank:
            return asarray(given, dtype=dtype)
        raise DtypeError(message(self.name, f"{path} = {_text(given)}", f"a tensor {of}"))


def _text(given: Any) -> str:
    if type(given) in _STATIC:
        return f"{given!r:.60}"
    names = list(given) if isinstance(given, dict) else None
    if names is not None:
        return f"a dict with the keys {names!r:.100}"
    return f"a {type(given).__name__}" + (f" of {len(given)}" if hasattr(given, "__len__") else "")


# As JSON.


def written(form: Form, specs: Iterator[str]) -> Any:
    """A form as JSON, with these texts for the specs of its tensors."""
    if form.kind == "tensor":
        return {"tensor": next(specs)}
    if form.kind == "value":
        return {"value": form.held}
    parts = [written(p, specs) for p in form.parts]
    if form.kind in ("tuple", "list"):
        return {form.kind: parts}
    rows = [[k, p] for k, p in zip(form.keys, parts, strict=True)]
    return {"dict": rows} if form.kind == "dict" else {"named": form.held, "fields": rows}


@final
class FormReader:
    """Forms from JSON that nobody has checked. `specs` are those of the tensors, in order, as they
    must stand there."""

    __slots__ = ("specs", "texts", "count")

    def __init__(self, specs: Iterator[Any], texts: Iterator[str]) -> None:
        self.specs = specs
        self.texts = texts
        self.count = 0

    def read(self, row: Any, depth: int = 0) -> Form:
        self.count += 1
        if type(row) is not dict or depth > DEPTH or self.count > MOST_LEAVES:
            raise _refused(f"a tree {row!r:.60}")
        if row.keys() == {"tensor"}:
            of, text = next(self.specs, None), next(self.texts, None)
            if of is None or row["tensor"] != text:
                raise _refused(f"a tensor {row['tensor']!r:.60} where the graph has {text}")
            return Form("tensor", held=of)
        if row.keys() == {"value"} and type(row["value"]) in _STATIC:
            return Form("value", held=row["value"])
        for kind in ("tuple", "list"):
            if row.keys() == {kind} and type(row[kind]) is list:
                return Form(kind, tuple([self.read(p, depth + 1) for p in row[kind]]))
        if row.keys() == {"dict"}:
            keys, parts = self._rows(row["dict"], depth)
            return Form("dict", parts, keys)
        if row.keys() == {"named", "fields"}:
            keys, parts = self._rows(row["fields"], depth)
            if keys and all([is_name(n) and n[0] != "_" for n in (row["named"], *keys)]):
                return Form("named", parts, keys, row["named"])
        raise _refused(f"a tree {row!r:.60}")

    def _rows(self, rows: Any, depth: int) -> tuple[tuple[Any, ...], tuple[Form, ...]]:
        keys: dict[Any, Form] = {}
        if type(rows) is not list:
            raise _refused(f"items {rows!r:.60}")
        for row in rows:
            if type(row) is not list or len(row) != 2 or type(row[0]) not in (str, int):
                raise _refused(f"an item {row!r:.60}")
            if row[0] in keys:
                raise _refused(f"the key {row[0]!r:.60} twice")
            keys[row[0]] = self.read(row[1], depth + 1)
        return tuple(keys), tuple(keys.values())


def is_name(given: Any) -> bool:
    """Whether it may be the name of an argument, a field, a dim."""
    short = type(given) is str and len(given) <= 200
    return short and given.isidentifier() and not iskeyword(given)


def _refused(given: str) -> FileError:
    return FileError(message("load", given[:300], "the tree that pa.export wrote"))
