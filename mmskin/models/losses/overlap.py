"""Losses of masks: how far two regions are from covering each other."""

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['DiceLoss', 'JaccardLoss']


@MODELS.register_module()
class DiceLoss(nn.Module):
    r"""1 - 2 \|P Y\| / (\|P\| + \|Y\|), per image, then averaged.

    V-Net (https://arxiv.org/abs/1606.04797, section 3), with plain sums in place of its squares.

    Args:
        smooth: Added to numerator and denominator: an image without lesion then has a gradient as well.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of ``logits`` (N, 1, H, W) for the 0/1 mask ``target`` of the same shape: a scalar."""
        probability, target = logits.sigmoid().flatten(1), target.flatten(1).to(logits.dtype)
        overlap = (probability * target).sum(1)
        total = probability.sum(1) + target.sum(1)
        return (1 - (2 * overlap + self.smooth) / (total + self.smooth)).sum() / max(len(logits), 1)


@MODELS.register_module()
class JaccardLoss(nn.Module):
    r"""The Jaccard distance between probabilities and mask, per image, then averaged.

    .. math:: L = 1 - \frac{\sum_j t_j p_j}{\sum_j t_j^2 + \sum_j p_j^2 - \sum_j t_j p_j}

    Yuan, Chao and Lo, https://doi.org/10.1109/TMI.2017.2695227. It needs no weights for lesions smaller than the skin
    around them, since a pixel that both call skin does not enter it.

    Args:
        smooth: Added to numerator and denominator, and ours: an image without lesion then has a gradient as well.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of ``logits`` (N, 1, H, W) for the 0/1 mask ``target`` of the same shape: a scalar."""
        probability, target = logits.float().sigmoid().flatten(1), target.flatten(1).float()
        overlap = (probability * target).sum(1)
        union = target.square().sum(1) + probability.square().sum(1) - overlap
        return (1 - (overlap + self.smooth) / (union + self.smooth)).sum() / max(len(logits), 1)
