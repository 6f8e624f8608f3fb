"""Every graph is verified between passes while tests run."""

from __future__ import annotations

import os

os.environ.setdefault("PROA_VERIFY", "1")
