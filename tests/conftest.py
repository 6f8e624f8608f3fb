"""Every graph is verified between passes while tests run; each test starts with full gradients on."""

from __future__ import annotations

import os

os.environ.setdefault("PROA_VERIFY", "1")
