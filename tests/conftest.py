"""Every graph is verified between passes while tests run."""

from __future__ import annotations

import os

os.environ.setdefault("PROA_VERIFY", "1")
# Two BLAS threads on busy cores wait for each other; one is steady, and small products gain nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
