"""Parts of complex numbers. Arithmetic of complex numbers is not there yet, and so no derivative
of these."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype
from proa.graph.spec import Spec, spec
from proa.ops.families.elementwise import ELEMENTWISE
from proa.ops.primitive import Primitive, Sample

COMPLEX: Final = frozenset({dtypes.complex64, dtypes.complex128})
SAMPLES: Final = [
    Sample(((shape, name),)) for name in ("complex64", "complex128") for shape in ((), (2, 3), (0,))
]


def real_dtype(dtype: Dtype) -> Dtype:
    """The dtype of the parts."""
    return dtypes.float32 if dtype is dtypes.complex64 else dtypes.float64


def _to_real(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    return spec(ins[0].shape, real_dtype(ins[0].dtype))


conj = Primitive(
    "conj", ELEMENTWISE, accepts=COMPLEX, meaning=np.conjugate, differentiable=False,
    samples=SAMPLES, doc="a - b i of a + b i.",
)  # fmt: skip

real = Primitive(
    "real", ELEMENTWISE, accepts=COMPLEX, rule=_to_real, differentiable=False, samples=SAMPLES,
    meaning=lambda x: np.ascontiguousarray(x.real).reshape(x.shape), doc="a of a + b i.",
)  # fmt: skip

imag = Primitive(
    "imag", ELEMENTWISE, accepts=COMPLEX, rule=_to_real, differentiable=False, samples=SAMPLES,
    meaning=lambda x: np.ascontiguousarray(x.imag).reshape(x.shape), doc="b of a + b i.",
)  # fmt: skip
