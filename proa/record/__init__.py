"""Dynamic mode: handles, the live queue, keys, programs found again. The hot path."""
