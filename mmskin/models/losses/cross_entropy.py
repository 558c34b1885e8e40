"""Cross-entropy over classes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['CrossEntropy']


@MODELS.register_module()
class CrossEntropy(nn.Module):
    """Softmax cross-entropy; torch's own takes the class weights as a tensor, which a config cannot write.

    Args:
        class_weight: Factor per class, for classes of unlike frequency.
        label_smoothing: Share of the target spread over all classes (https://arxiv.org/abs/1512.00567, section 7).
    """

    weight: Tensor | None

    def __init__(self, class_weight: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        weight = torch.tensor(class_weight, dtype=torch.float32) if class_weight else None
        self.register_buffer('weight', weight, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of ``logits`` (N, num_classes) for ``labels`` (N,): a scalar."""
        return F.cross_entropy(logits, labels, self.weight, label_smoothing=self.label_smoothing)
