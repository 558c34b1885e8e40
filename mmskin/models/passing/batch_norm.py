"""Batch normalisation that a batch of one survives."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['BatchNorm']


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's, but with the running statistics where a channel has one value, as in one image's 1x1 map.

    There PyTorch raises an error in training, and the variance it would divide by is 0.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Normalise a map (N, C, H, W)."""
        if self.training and input[:, 0].numel() == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
