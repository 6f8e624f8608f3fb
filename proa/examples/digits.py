"""Handwritten digits, told apart by a small convolutional net: `proa demo --task digits`.

`run` is the story: three seeds, each with its own shuffle of the data's training part.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any, Final

import numpy as np

import proa as pa
from proa import nn, optim
from proa.cli.show import Show
from proa.data import DataLoader
from proa.errors import MissingExtra, message
from proa.nn import functional as F  # noqa: N812

SEEDS: Final = (0, 1, 2)
EPOCHS: Final = 15
BATCH: Final = 64
RATE: Final = 3e-3
HELD_OUT: Final = 0.2


def run(show: Show, *, device: str | None = None, seed: int | None = None) -> dict[str, Any]:
    """Train a net for each seed, and judge it on the digits that were held out.

    Arguments:
        show: where to write what is being done.
        device: where to compute; the default device if None.
        seed: this seed only; three of them if None.

    Returns:
        Accuracies by seed and their median, of plain numbers, strings and dicts.

    Errors:
        MissingExtra: scikit-learn, which brings the data, is not installed.
    """
    start = time.perf_counter()
    train, held_out = digits()
    show.say(f"digits    {len(train[0])} to learn from, {len(held_out[0])} held out")
    accuracies = {}
    with pa.device(device or pa.get_default_device()):
        for number in SEEDS if seed is None else (seed,):
            model = learn(train, number, show)
            accuracies[number] = accuracy(model, held_out)
            show.say(
                f"seed {number}    {accuracies[number]:.2%} of the digits held out are told right"
            )
    seconds = time.perf_counter() - start
    middle = median(accuracies.values())
    show.result(f"median    {middle:.2%} of {len(accuracies)} seeds, in {seconds:.0f} s")
    return {
        "task": "digits",
        "digits_to_learn": len(train[0]),
        "digits_held_out": len(held_out[0]),
        "accuracies": {str(number): found for number, found in accuracies.items()},
        "median": middle,
        "seconds": seconds,
    }


class Net(nn.Module):
    """Two convolutions with batch norm, each halving the picture, then one linear layer.

    Example:
        >>> Net()(pa.zeros((2, 1, 8, 8))).shape
        (2, 10)
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: Any) -> Any:
        """Scores (batch, 10) of pictures (batch, 1, 8, 8)."""
        x = self.pool(F.relu(self.norm1(self.conv1(x))))
        x = self.pool(F.relu(self.norm2(self.conv2(x))))
        return self.head(self.dropout(x.reshape(x.shape[0], -1)))


def digits() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Pictures and digits to learn from, and one fifth held out, after a fixed shuffle."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        hint = "pip install 'proa[demo]'"
        raise MissingExtra(message("digits", "no package scikit-learn", "it", hint)) from None
    data = load_digits()
    pictures = (data.images[:, None] / 16 - 0.5).astype(np.float32)
    labels = data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    count = round(HELD_OUT * len(labels))
    held_out, train = order[:count], order[count:]
    return (pictures[train], labels[train]), (pictures[held_out], labels[held_out])


def learn(train: tuple[Any, Any], seed: int, show: Show) -> Net:
    """A net trained from this seed."""
    pa.manual_seed(seed)
    model = Net()
    generator = pa.Generator(seed)
    loader = DataLoader(train, batch_size=BATCH, shuffle=True, drop_last=True, generator=generator)
    steps = EPOCHS * len(loader)
    optimizer = optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=steps)

    @pa.jit
    def step(pictures: Any, labels: Any) -> Any:
        loss = F.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    done = 0
    with show.steps(f"seed {seed}   ", steps) as progress:
        for _ in range(EPOCHS):
            for pictures, labels in loader:
                loss = step(pictures, labels)
                schedule.step()
                done += 1
                progress.update(done, loss.item())
    return model


def accuracy(model: Net, held_out: tuple[Any, Any]) -> float:
    """The fraction of pictures whose digit has the highest score."""
    pictures, labels = held_out
    model.eval()
    with pa.no_grad():
        told = pa.argmax(model(pa.asarray(pictures)), axis=1).numpy()
    return float((told == labels).mean())
