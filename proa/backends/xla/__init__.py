"""XLA through public JAX names: every chip with a PJRT plug-in, and the second oracle."""

from typing import Any


def make() -> Any:
    """The backend; jax is imported here."""
    from proa.backends.xla.backend import XlaBackend

    return XlaBackend()
