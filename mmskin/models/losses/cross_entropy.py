"""Losses of classes."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.registry import MODELS

__all__ = ['CrossEntropy', 'WeightedCrossEntropy']


@MODELS.register_module()
class CrossEntropy(nn.Module):
    """Softmax cross-entropy; torch's own takes the class weights as a tensor, which a config cannot write.

    A batch without weight, because it is empty or all its classes weigh 0, has a loss of 0; torch's own is nan.

    Args:
        class_weight: Factor per class, for classes of unlike frequency.
        label_smoothing: Share of the target spread over all classes (https://arxiv.org/abs/1512.00567, section 7).

    Raises:
        Mistake: if a weight is negative or not finite, or all are 0; in a call, if there are more or fewer than logits.
    """

    class_weight: Tensor | None

    def __init__(self, class_weight: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        if weight is not None and not (bool(((weight >= 0) & weight.isfinite()).all()) and 0 < weight.sum() < math.inf):
            raise Mistake(f'class_weight={class_weight}: give a number >= 0 for each class, and not 0 for all')
        if not 0 <= label_smoothing <= 1:
            raise Mistake(f'label_smoothing={label_smoothing}: give a share, from 0 to 1')
        self.register_buffer('class_weight', weight, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of ``logits`` (N, num_classes) for ``labels`` (N,), or shares (N, num_classes): a scalar."""
        if self.class_weight is not None and len(self.class_weight) != logits.shape[1]:
            raise Mistake(
                f'class_weight={self.class_weight.tolist()} is for {len(self.class_weight)} classes, and the head has '
                f'{logits.shape[1]}; give one number for each'
            )
        total = F.cross_entropy(
            logits, labels, self.class_weight, reduction='sum', label_smoothing=self.label_smoothing
        )
        if self.class_weight is None:
            return total / max(len(labels), 1)
        weight = (labels @ self.class_weight if labels.is_floating_point() else self.class_weight[labels]).sum()
        return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1), 0 * total)


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
