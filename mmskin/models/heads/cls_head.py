"""The classification head."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ClsHead']


@MODELS.register_module()
class ClsHead(nn.Module):
    """Global average pooling and one linear layer, as in ResNet (https://arxiv.org/abs/1512.03385).

    Args:
        in_channels: Channels of the last feature map.
        num_classes: Diseases told apart.
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
