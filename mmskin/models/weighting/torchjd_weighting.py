"""A weighting of the optional library TorchJD."""

from collections.abc import Callable
from functools import cached_property

from torch import Tensor, nn

from mmskin.optional import needs

__all__ = ['TorchJDWeighting']


class TorchJDWeighting(nn.Module):
    """TorchJD's weighting ``name``, from the products of the gradients (K, K) to weights (K,).

    It is built when a training starts, so that a network which only tests or predicts does without TorchJD.

    Args:
        name: Of the class in ``torchjd.aggregation``.
        options: Its arguments.
    """

    def __init__(self, name: str, **options: float) -> None:
        super().__init__()
        self.name, self.options = name, options

    @cached_property
    def method(self) -> Callable[[Tensor], Tensor]:
        """The weighting itself.

        Raises:
            ImportError: if TorchJD, or what it needs for this weighting, is not installed.
        """
        return getattr(needs('torchjd.aggregation', 'torchjd'), self.name)(**self.options)

    def train(self, mode: bool = True) -> 'TorchJDWeighting':
        """Switch to training, which needs TorchJD: better now than at the end of the first step."""
        if mode:
            _ = self.method
        return super().train(mode)

    def forward(self, gramian: Tensor) -> Tensor:
        """The weights."""
        return self.method(gramian)
