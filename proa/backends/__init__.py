"""Backends: each sees Programs, graphs and the names of operations, and nothing above."""
