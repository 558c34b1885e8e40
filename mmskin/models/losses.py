"""The losses of tasks, and building them from their configs, with their weights checked against the head."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.registry import MODELS

LARGEST = torch.finfo(torch.float32).max
WEIGHTS = ('class_weight', 'weight', 'pos_weight')  # a number for each of the head's outputs


@MODELS.register_module()
class CrossEntropy(nn.Module):
    """Softmax cross-entropy; torch's own takes the class weights as a tensor, which a config cannot write.

    A batch without weight, because it is empty or all its classes weigh 0, has a loss of 0; torch's own is nan.

    Args:
        class_weight: Factor per class, for classes of unlike frequency.
        label_smoothing: Share of the target spread over all classes (https://arxiv.org/abs/1512.00567, section 7).

    Raises:
        Mistake: if a weight is negative or not finite, or all are 0; in a call, if there are more or fewer than logits,
            or a single logit, whose softmax is 1 whatever is learnt.
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
        if logits.shape[1] == 1:
            raise Mistake('CrossEntropy gets one logit and would learn nothing; take torch.nn.BCEWithLogitsLoss for it')
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


def build_losses(
    configs: Mapping[str, dict] | None, head: nn.Module, num_logits: int | None = None
) -> nn.ModuleDict | None:
    """The losses by name; None where the head has its own, which are checked as well.

    A config writes weights as a list, which torch's losses take as a tensor: ``dict(type='torch.nn.BCEWithLogitsLoss',
    pos_weight=[2.0])``.

    Args:
        configs: By name.
        head: Of the task.
        num_logits: How many logits an image or a pixel has when the losses see it, if not those of the head.
    """
    losses = nn.ModuleDict(
        {name: MODELS.build(with_tensors(loss), kind='losses') for name, loss in (configs or {}).items()}
    )
    outputs = num_logits if configs else None
    if not outputs:  # what the head says, if it does
        counts = [getattr(head, 'out_channels', None), getattr(head, 'num_classes', None)]
        counts.append(getattr(getattr(head, 'fc', None), 'out_features', None))
        outputs = next((number for number in counts if isinstance(number, int)), None)
    parts = [*(losses or head).modules()] if outputs is not None else []
    for part, name in product(parts, WEIGHTS):
        values = getattr(part, name, None)
        if isinstance(values, nn.Parameter) or not isinstance(values, list | tuple | Tensor):
            continue
        is_binary = name == 'pos_weight' or isinstance(part, nn.BCELoss | nn.BCEWithLogitsLoss)
        if len(values) == outputs or (is_binary and len(values) == 1) or (outputs == 1 and not is_binary):
            continue  # how one logit for two classes is weighed, the loss decides
        listed = values.tolist() if isinstance(values, Tensor) else [*values]
        raise Mistake(f'{type(part).__name__}({name}={listed}): it gets {outputs} logits; give {outputs} numbers')
    return losses if configs else None


def with_tensors(loss: dict[str, Any]) -> dict[str, Any]:
    """The config of one of torch's losses with tensors in place of lists of weights; any other as it is."""
    kind = loss.get('type') if isinstance(loss, Mapping) else None
    path = kind if isinstance(kind, str) else f'{getattr(kind, "__module__", "")}.'
    if not path.startswith('torch.nn.'):
        return loss
    lists = {name: loss[name] for name in WEIGHTS if isinstance(loss.get(name), int | float | list | tuple)}
    for name, values in lists.items():
        lists[name] = [values] if isinstance(values, int | float) else values
        numbers = [value for value in lists[name] if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) < len(lists[name]) or not any(numbers) or not all(0 <= number < LARGEST for number in numbers):
            raise Mistake(f'{kind}({name}={values!r}): give numbers >= 0, and not 0 for all')
    return {**loss, **{name: torch.tensor(values, dtype=torch.float32) for name, values in lists.items()}}
