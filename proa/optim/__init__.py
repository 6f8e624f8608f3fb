"""Optimizers, gradient clipping and learning-rate schedules, with PyTorch's names and numbers."""

from proa.optim.adam import Adam, AdamW
from proa.optim.clip import clip_grad_norm_, clip_grad_value_
from proa.optim.optimizer import Optimizer
from proa.optim.schedule import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR, StepLR
from proa.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "LRScheduler", "LinearLR", "Optimizer",
    "SequentialLR", "StepLR", "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip
