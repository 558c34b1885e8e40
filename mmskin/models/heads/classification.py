"""Classification heads: logits of an image from a branch's maps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['BilinearHead', 'ClsHead', 'bilinear_pooling']


@MODELS.register_module()
class ClsHead(nn.Module):
    """Global average pooling and one linear layer, as in ResNet (https://arxiv.org/abs/1512.03385).

    Args:
        in_channels: Channels of the last feature map.
        num_classes: Number of classes.
        dropout: Share of the pooled features dropped while training.
    """

    def __init__(self, in_channels: int, num_classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) from the last map (N, C, H, W) of ``feats``."""
        pooled = feats[-1].mean(dim=(2, 3))  # (N, C)
        return self.fc(self.dropout(pooled))


@MODELS.register_module()
class BilinearHead(nn.Module):
    """One linear layer on the bilinear features of the last map beside the averages of the maps before it.

    The last map's are the local features of Ge et al. (https://doi.org/10.1109/ISBI.2017.7950681), the averages their
    global ones. That each kind is brought to length 1 before they are joined is ours.

    Args:
        in_channels: Channels of the maps, the last one's last; a number for one map.
        num_classes: Number of classes.
        dropout: Share of the joined features dropped while training.
    """

    def __init__(self, in_channels: int | Sequence[int], num_classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        self.num_maps = len(channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(sum(channels[:-1]) + channels[-1] ** 2, num_classes)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) from the last maps (N, C, H, W) of ``feats``, as many as there are channels."""
        *others, local = feats[-self.num_maps :]
        averages = [F.normalize(feat.mean(dim=(2, 3)), dim=1) for feat in others]
        return self.fc(self.dropout(torch.cat([*averages, bilinear_pooling(local)], dim=1)))


def bilinear_pooling(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Which channels of a map occur together: (N, C * C), of length 1.

    The outer product of each position's features with themselves, summed over positions, then the signed square root
    and division by the Euclidean norm (Lin et al., https://arxiv.org/abs/1504.07889, section 3.1).

    Args:
        x: (N, C, H, W).
        eps: Keeps the square root's slope finite at 0.
    """
    x = x.flatten(2).float()  # (N, C, HW)
    products = torch.einsum('ncp,ndp->ncd', x, x).flatten(1).float() / x.shape[2]
    roots = products.sign() * ((products.abs() + eps).sqrt() - eps**0.5)
    return F.normalize(roots, dim=1)
