"""Proa: deep learning on one lazily recorded graph."""
