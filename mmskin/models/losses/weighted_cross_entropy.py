"""The class-balanced cross-entropy of the paper's eq. 3."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.registry import MODELS

__all__ = ['WeightedCrossEntropy']


@MODELS.register_module()
class WeightedCrossEntropy(nn.Module):
    r"""Binary cross-entropy whose two classes weigh alike in each image, whatever the lesion's size.

    .. math:: L = -\beta \sum_{j \in Y_+} \log P(y_j=1) - (1 - \beta) \sum_{j \in Y_-} \log P(y_j=0)

    The paper prints beta = \|Y-\|/\|Y+\|, which makes (1 - beta) negative for most images. The loss it cites
    (holistically-nested edge detection, https://arxiv.org/abs/1504.06375, eq. 2) has beta = \|Y-\|/\|Y\|, per image;
    that is used here.

    Args:
        reduction: 'sum' adds the pixels as eq. 3 prints it; 'mean' divides by their number, so that the learning rate
            does not depend on the size of the mask. Images are averaged either way.
    """

    def __init__(self, reduction: str = 'mean') -> None:
        super().__init__()
        if reduction not in ('mean', 'sum'):
            raise Mistake(f"reduction is 'mean' or 'sum', not {reduction!r}")
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of ``logits`` (N, 1, H, W) for the 0/1 mask ``target`` of the same shape: a scalar."""
        target = target.to(logits.dtype)
        beta = 1 - target.mean(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
        weight = beta * target + (1 - beta) * (1 - target)
        pixels = F.binary_cross_entropy_with_logits(logits, target, weight, reduction='none').flatten(1)
        return getattr(pixels, self.reduction)(dim=1).sum() / max(len(logits), 1)
