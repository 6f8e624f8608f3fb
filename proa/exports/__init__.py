"""Functions as folders without Python: `export`, `load`, `spec`."""

from proa.exports.exported import Exported, export, load
from proa.exports.signature import Signature, spec

__all__ = ["Exported", "Signature", "export", "load", "spec"]
