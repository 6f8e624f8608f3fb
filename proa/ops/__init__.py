"""What exists: one operation, one block."""
