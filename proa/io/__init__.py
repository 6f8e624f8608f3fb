"""Files: safetensors, and checkpoints of whole runs. Pickle is never read or written."""

from proa.io.checkpoint import load, save
from proa.io.safetensors import load_file, load_metadata, save_file

__all__ = ["load", "load_file", "load_metadata", "save", "save_file"]
