"""The geometric mean of the losses."""

import torch
from torch import Tensor

from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS

__all__ = ['GLS']


@MODELS.register_module()
class GLS(Weighting):
    """The geometric mean of the losses, (prod_i L_i)^(1/n), over the n tasks that the batch has labels for.

    MultiNet++'s geometric loss strategy (Chennupati et al., https://arxiv.org/abs/1904.08492). Its gradient is that of
    sum_i w_i L_i with w_i = (prod_j L_j)^(1/n) / (n L_i) held constant, which is how it is computed here, and the two
    have the same value.

    Ours: the mean is over the tasks that have labels, as a loss of zero would make all of it zero; several processes
    take the w of their losses' averages; and a loss counts as `FLOOR` at least.
    """

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        losses, count = values.clamp(min=FLOOR), present.sum().clamp(min=1)
        mean = torch.exp(torch.where(present, losses.log(), 0).sum() / count)
        return torch.where(present, mean / (count * losses), 0)


FLOOR = 1e-6  # of a loss: the n-th root has an infinite slope at zero
