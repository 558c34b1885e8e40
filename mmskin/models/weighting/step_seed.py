"""A random seed for every training step, the same in all processes and after a resume."""

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ['StepSeed']


class StepSeed(nn.Module):
    """Counts the steps it is asked for, from a seed drawn when the model is built, and so from the run's seed.

    Both numbers are saved with the model. torch's own generator would not do: it is seeded differently in each process,
    whose weights then differ.
    """

    seed: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('seed', torch.randint(2**31, ()))
        self.register_buffer('step', torch.tensor(0))

    def forward(self) -> np.random.Generator:
        """The step's generator; in training mode the next call is the next step."""
        generator = np.random.default_rng((int(self.seed), int(self.step)))
        if self.training:
            self.step += 1
        return generator
