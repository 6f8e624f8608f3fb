"""Datasets and the loader that makes batches of them."""

from proa.data.dataset import Subset, TensorDataset, random_split
from proa.data.loader import DataLoader, collate

__all__ = ["DataLoader", "Subset", "TensorDataset", "collate", "random_split"]
