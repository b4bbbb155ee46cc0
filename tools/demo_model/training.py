"""Shared by both trainings: batches of pictures, the learning-rate schedule, and averaged weights."""

import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn


def load_images(dataset: Path) -> np.ndarray:
    """(count, 128, 128, 3) bytes, memory-mapped."""
    return np.load(dataset / "images.npy", mmap_mode="r")


def to_batch(pixels: np.ndarray) -> torch.Tensor:
    """(batch, height, width, 3) bytes to (batch, 3, height, width) floats from -1 to 1."""
    batch = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
    return batch.div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def learning_rate(peak: float, step: int, steps: int, warm_up: int, lowest: float = 0.02) -> float:
    """Rises over `warm_up` steps, then falls along a cosine to `lowest` times the peak."""
    rise = min(1.0, (step + 1) / warm_up)
    return peak * rise * max(lowest, 0.5 * (1 + math.cos(math.pi * step / steps)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class AveragedWeights:
    """A moving average of a network's weights, which draws better than the network itself."""

    def __init__(self, network: nn.Module, longest: float):
        """`longest`: the share of itself that the average keeps at each step. The first steps keep less."""
        self.network, self.longest = network, longest
        self.average = copy.deepcopy(network).eval()

    @torch.no_grad()
    def follow(self, step: int) -> None:
        keep = min(self.longest, step / (step + 20))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)


class Progress:
    """Prints a running mean of the losses every `every` steps."""

    def __init__(self, every: int = 50):
        self.every = every
        self.mean: dict[str, float] = {}

    def report(self, step: int, steps: int, **losses: float) -> None:
        for name, loss in losses.items():
            self.mean[name] = loss if name not in self.mean else 0.98 * self.mean[name] + 0.02 * loss
        if step % self.every == 0 or step == steps:
            print(f"{step}/{steps}", *(f"{name} {value:.4f}" for name, value in self.mean.items()), flush=True)


def update(network: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
